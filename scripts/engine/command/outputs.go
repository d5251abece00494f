package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Scripts are what every command has: what to run, and when.
type Scripts struct {
	Create   *string `pulumi:"create,optional"`
	Update   *string `pulumi:"update,optional"`
	Delete   *string `pulumi:"delete,optional"`
	Stdin    *string `pulumi:"stdin,optional"`
	Logging  *string `pulumi:"logging,optional"`
	Triggers *[]any  `pulumi:"triggers,optional" provider:"replaceOnChanges"`

	Environment            *map[string]string `pulumi:"environment,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
}

// onUpdate is the script that an update runs: `create` again where there is no `update`.
func (s Scripts) onUpdate() *string {
	if s.Update != nil {
		return s.Update
	}
	return s.Create
}

// variables is the environment that a script gets on top of what is there.
func (s Scripts) variables(previous Streams) map[string]string {
	variables := map[string]string{}
	if s.AddPreviousOutputInEnv == nil || *s.AddPreviousOutputInEnv {
		if previous.Stdout != "" {
			variables["PULUMI_COMMAND_STDOUT"] = previous.Stdout
		}
		if previous.Stderr != "" {
			variables["PULUMI_COMMAND_STDERR"] = previous.Stderr
		}
	}
	if s.Environment != nil {
		for name, value := range *s.Environment {
			variables[name] = value
		}
	}
	return variables
}

func (s Scripts) input() io.Reader {
	if s.Stdin == nil {
		return nil
	}
	return strings.NewReader(*s.Stdin)
}

// Streams is what a script wrote, without the last line's end.
type Streams struct {
	Stdout string `pulumi:"stdout"`
	Stderr string `pulumi:"stderr"`
}

// capture collects what a script writes, and shows each line as it comes where the arguments want that.
type capture struct {
	stdout, stderr, both bytes.Buffer
	lock                 sync.Mutex
	outPipe, errPipe     *io.PipeWriter
	shown                sync.WaitGroup
}

func newCapture(ctx context.Context, logging *string) (*capture, io.Writer, io.Writer) {
	c := &capture{}
	wanted := "stdoutAndStderr"
	if logging != nil {
		wanted = *logging
	}
	show := func(stream string) *io.PipeWriter {
		reader, writer := io.Pipe()
		c.shown.Add(1)
		go func() {
			defer c.shown.Done()
			lines := bufio.NewReader(reader)
			for {
				line, err := lines.ReadString('\n')
				if line != "" && (wanted == stream || wanted == "stdoutAndStderr") {
					provider.GetLogger(ctx).InfoStatus(strings.TrimRight(line, "\n"))
				}
				if err != nil {
					return
				}
			}
		}()
		return writer
	}
	c.outPipe, c.errPipe = show("stdout"), show("stderr")
	return c, c.writer(&c.stdout, c.outPipe), c.writer(&c.stderr, c.errPipe)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(data []byte) (int, error) { return f(data) }

func (c *capture) writer(stream *bytes.Buffer, shown io.Writer) io.Writer {
	return writerFunc(func(data []byte) (int, error) {
		c.lock.Lock()
		stream.Write(data)
		c.both.Write(data)
		c.lock.Unlock()
		return shown.Write(data)
	})
}

// end waits until every line is shown, and says what was run and written when it failed.
func (c *capture) end(script string, failure error) (Streams, error) {
	c.outPipe.Close()
	c.errPipe.Close()
	c.shown.Wait()
	streams := Streams{
		Stdout: strings.TrimSuffix(c.stdout.String(), "\n"),
		Stderr: strings.TrimSuffix(c.stderr.String(), "\n"),
	}
	if failure != nil {
		return streams, fmt.Errorf("%w: running %q:\n%s", failure, script, c.both.String())
	}
	return streams, nil
}

func identity(name string) (string, error) {
	return resource.NewUniqueHex(name, 8, 0)
}
