package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Endpoint says how to reach one SSH server.
type Endpoint struct {
	Host               *string  `pulumi:"host"`
	Port               *float64 `pulumi:"port,optional"`
	User               *string  `pulumi:"user,optional"`
	Password           *string  `pulumi:"password,optional" provider:"secret"`
	PrivateKey         *string  `pulumi:"privateKey,optional" provider:"secret"`
	PrivateKeyPassword *string  `pulumi:"privateKeyPassword,optional" provider:"secret"`
	AgentSocketPath    *string  `pulumi:"agentSocketPath,optional"`
	HostKey            *string  `pulumi:"hostKey,optional"`
	DialErrorLimit     *int     `pulumi:"dialErrorLimit,optional"`
	PerDialTimeout     *int     `pulumi:"perDialTimeout,optional"`
}

// Proxy is a server on the way to another.
type Proxy struct{ Endpoint }

// Annotate gives the type its published name.
func (p *Proxy) Annotate(a infer.Annotator) { a.SetToken("remote", "ProxyConnection") }

// Connection is the server on which to work.
type Connection struct {
	Endpoint
	Proxy *Proxy `pulumi:"proxy,optional"`
}

// Annotate gives the type its published name.
func (c *Connection) Annotate(a infer.Annotator) { a.SetToken("remote", "Connection") }

// open connects, through the proxy where there is one.
func (c Connection) open(ctx context.Context) (*ssh.Client, func(), error) {
	through := &net.Dialer{}
	if c.Proxy == nil {
		client, err := c.Endpoint.open(ctx, through.DialContext)
		if err != nil {
			return nil, nil, err
		}
		return client, func() { client.Close() }, nil
	}
	proxy, err := c.Proxy.open(ctx, through.DialContext)
	if err != nil {
		return nil, nil, fmt.Errorf("proxy: %w", err)
	}
	client, err := c.Endpoint.open(ctx, proxy.DialContext)
	if err != nil {
		proxy.Close()
		return nil, nil, err
	}
	return client, func() { client.Close(); proxy.Close() }, nil
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

func (e Endpoint) open(ctx context.Context, dial dial) (*ssh.Client, error) {
	config, release, err := e.config()
	if err != nil {
		return nil, err
	}
	defer release()
	address := net.JoinHostPort(*e.Host, strconv.Itoa(int(orElse(e.Port, 22))))
	limit := orElse(e.DialErrorLimit, 10)
	for attempt := 1; ; attempt++ {
		client, err := e.attempt(ctx, dial, address, config)
		if err == nil {
			return client, nil
		}
		if limit >= 0 && attempt > limit {
			return nil, fmt.Errorf("after %d failed attempts: %w", attempt, err)
		}
		provider.GetLogger(ctx).InfoStatusf("Dial %d/%d to %s failed: %s; trying again", attempt, limit+1, address, err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(time.Duration(attempt)*time.Second, 10*time.Second)):
		}
	}
}

func (e Endpoint) attempt(
	ctx context.Context, dial dial, address string, config *ssh.ClientConfig,
) (*ssh.Client, error) {
	if config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, config.Timeout)
		defer cancel()
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// The handshake knows no context: closing the connection is what ends one that hangs.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	connection, channels, requests, err := ssh.NewClientConn(raw, address, config)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return ssh.NewClient(connection, channels, requests), nil
}

// config gathers the ways to log in: a key, else a password, and the agent beside either.
func (e Endpoint) config() (*ssh.ClientConfig, func(), error) {
	config := &ssh.ClientConfig{
		User:            orElse(e.User, "root"),
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Timeout:         time.Duration(orElse(e.PerDialTimeout, 15)) * time.Second,
	}
	release := func() {}
	if e.HostKey != nil {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*e.HostKey))
		if err != nil {
			return nil, nil, fmt.Errorf("failed to parse host key: %w", err)
		}
		config.HostKeyCallback = ssh.FixedHostKey(key)
		config.HostKeyAlgorithms = []string{key.Type()}
	}
	if e.PrivateKey != nil {
		var signer ssh.Signer
		var err error
		if e.PrivateKeyPassword != nil {
			signer, err = ssh.ParsePrivateKeyWithPassphrase([]byte(*e.PrivateKey), []byte(*e.PrivateKeyPassword))
		} else {
			signer, err = ssh.ParsePrivateKey([]byte(*e.PrivateKey))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("failed to parse private key: %w", err)
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if e.Password != nil {
		password := *e.Password
		config.Auth = append(config.Auth, ssh.Password(password),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range answers {
					answers[i] = password
				}
				return answers, nil
			}))
	}
	if socket := orElse(e.AgentSocketPath, os.Getenv("SSH_AUTH_SOCK")); socket != "" {
		connection, err := net.Dial("unix", socket)
		if err != nil {
			return nil, nil, fmt.Errorf("the SSH agent at %s does not answer: %w", socket, err)
		}
		release = func() { connection.Close() }
		config.Auth = append(config.Auth, ssh.PublicKeysCallback(agent.NewClient(connection).Signers))
	}
	return config, release, nil
}

func orElse[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// RemoteCommand runs scripts on a server, over SSH.
type RemoteCommand struct{}

// RemoteArgs are the arguments of remote.Command.
type RemoteArgs struct {
	Scripts
	Connection *Connection `pulumi:"connection" provider:"secret"`
}

// RemoteState is what a remote.Command leaves.
type RemoteState struct {
	RemoteArgs
	Streams
}

// Annotate gives the resource its published name.
func (c *RemoteCommand) Annotate(a infer.Annotator) { a.SetToken("remote", "Command") }

// Create runs `create`.
func (c *RemoteCommand) Create(
	ctx context.Context, request infer.CreateRequest[RemoteArgs],
) (infer.CreateResponse[RemoteState], error) {
	response := infer.CreateResponse[RemoteState]{Output: RemoteState{RemoteArgs: request.Inputs}}
	var err error
	if response.ID, err = identity(request.Name); err != nil || request.DryRun {
		return response, err
	}
	response.Output.Streams, err = runRemote(ctx, request.Inputs, request.Inputs.Create, Streams{})
	return response, err
}

// Update runs `update`, or `create` where there is none.
func (c *RemoteCommand) Update(
	ctx context.Context, request infer.UpdateRequest[RemoteArgs, RemoteState],
) (infer.UpdateResponse[RemoteState], error) {
	state := RemoteState{RemoteArgs: request.Inputs, Streams: request.State.Streams}
	var err error
	if !request.DryRun {
		state.Streams, err = runRemote(ctx, request.Inputs, request.Inputs.onUpdate(), request.State.Streams)
	}
	return infer.UpdateResponse[RemoteState]{Output: state}, err
}

// Delete runs `delete`.
func (c *RemoteCommand) Delete(
	ctx context.Context, request infer.DeleteRequest[RemoteState],
) (infer.DeleteResponse, error) {
	_, err := runRemote(ctx, request.State.RemoteArgs, request.State.Delete, request.State.Streams)
	return infer.DeleteResponse{}, err
}

func runRemote(ctx context.Context, args RemoteArgs, script *string, previous Streams) (Streams, error) {
	if script == nil {
		return previous, nil
	}
	client, release, err := args.Connection.open(ctx)
	if err != nil {
		return previous, err
	}
	defer release()
	session, err := client.NewSession()
	if err != nil {
		return previous, err
	}
	defer session.Close()
	for name, value := range args.variables(previous) {
		if err := session.Setenv(name, value); err != nil {
			return previous, fmt.Errorf("could not set environment variable %q (does the server's AcceptEnv list it?): %w", name, err)
		}
	}
	session.Stdin = args.input()
	captured, stdout, stderr := newCapture(ctx, args.Logging)
	session.Stdout, session.Stderr = stdout, stderr
	return captured.end(*script, session.Run(*script))
}
