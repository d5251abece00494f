package main

import (
	"context"
	"os"
	"os/exec"

	"github.com/pulumi/pulumi-go-provider/infer"
)

// LocalCommand runs scripts on the machine of the engine.
type LocalCommand struct{}

// LocalArgs are the arguments of local.Command.
type LocalArgs struct {
	Scripts
	Dir         *string   `pulumi:"dir,optional"`
	Interpreter *[]string `pulumi:"interpreter,optional"`
}

// LocalState is what a local.Command leaves.
type LocalState struct {
	LocalArgs
	Streams
}

// Annotate gives the resource its published name.
func (c *LocalCommand) Annotate(a infer.Annotator) { a.SetToken("local", "Command") }

// Create runs `create`.
func (c *LocalCommand) Create(
	ctx context.Context, request infer.CreateRequest[LocalArgs],
) (infer.CreateResponse[LocalState], error) {
	response := infer.CreateResponse[LocalState]{Output: LocalState{LocalArgs: request.Inputs}}
	var err error
	if response.ID, err = identity(request.Name); err != nil || request.DryRun {
		return response, err
	}
	response.Output.Streams, err = runLocal(ctx, request.Inputs, request.Inputs.Create, Streams{})
	return response, err
}

// Update runs `update`, or `create` where there is none.
func (c *LocalCommand) Update(
	ctx context.Context, request infer.UpdateRequest[LocalArgs, LocalState],
) (infer.UpdateResponse[LocalState], error) {
	state := LocalState{LocalArgs: request.Inputs, Streams: request.State.Streams}
	var err error
	if !request.DryRun {
		state.Streams, err = runLocal(ctx, request.Inputs, request.Inputs.onUpdate(), request.State.Streams)
	}
	return infer.UpdateResponse[LocalState]{Output: state}, err
}

// Delete runs `delete`.
func (c *LocalCommand) Delete(
	ctx context.Context, request infer.DeleteRequest[LocalState],
) (infer.DeleteResponse, error) {
	_, err := runLocal(ctx, request.State.LocalArgs, request.State.Delete, request.State.Streams)
	return infer.DeleteResponse{}, err
}

func runLocal(ctx context.Context, args LocalArgs, script *string, previous Streams) (Streams, error) {
	if script == nil {
		return previous, nil
	}
	interpreter := []string{"/bin/sh", "-c"}
	if args.Interpreter != nil && len(*args.Interpreter) > 0 {
		interpreter = *args.Interpreter
	}
	command := exec.CommandContext(ctx, interpreter[0], append(interpreter[1:len(interpreter):len(interpreter)], *script)...)
	command.Env = os.Environ()
	for name, value := range args.variables(previous) {
		command.Env = append(command.Env, name+"="+value)
	}
	if args.Dir != nil {
		command.Dir = *args.Dir
	}
	command.Stdin = args.input()
	captured, stdout, stderr := newCapture(ctx, args.Logging)
	command.Stdout, command.Stderr = stdout, stderr
	return captured.end(*script, command.Run())
}
