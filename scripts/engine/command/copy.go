package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/pkg/sftp"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/infer/types"
)

// CopyToRemote puts a file or a folder on a server, over SFTP.
type CopyToRemote struct{}

// CopyArgs are the arguments of remote.CopyToRemote.
type CopyArgs struct {
	Connection *Connection          `pulumi:"connection" provider:"secret"`
	Source     types.AssetOrArchive `pulumi:"source"`
	RemotePath string               `pulumi:"remotePath"`
	Triggers   *[]any               `pulumi:"triggers,optional" provider:"replaceOnChanges"`
}

// CopyState is what a CopyToRemote leaves: its arguments.
type CopyState struct{ CopyArgs }

// Annotate gives the resource its published name.
func (c *CopyToRemote) Annotate(a infer.Annotator) { a.SetToken("remote", "CopyToRemote") }

// Create copies.
func (c *CopyToRemote) Create(
	ctx context.Context, request infer.CreateRequest[CopyArgs],
) (infer.CreateResponse[CopyState], error) {
	response := infer.CreateResponse[CopyState]{Output: CopyState{request.Inputs}}
	var err error
	if response.ID, err = identity(request.Name); err != nil || request.DryRun {
		return response, err
	}
	return response, request.Inputs.upload(ctx)
}

// Update copies again; nothing that went missing from the source is removed at the destination.
func (c *CopyToRemote) Update(
	ctx context.Context, request infer.UpdateRequest[CopyArgs, CopyState],
) (infer.UpdateResponse[CopyState], error) {
	response := infer.UpdateResponse[CopyState]{Output: CopyState{request.Inputs}}
	if request.DryRun {
		return response, nil
	}
	return response, request.Inputs.upload(ctx)
}

func (a CopyArgs) local() (string, error) {
	switch {
	case a.Source.Asset != nil && a.Source.Asset.IsPath():
		return a.Source.Asset.Path, nil
	case a.Source.Archive != nil && a.Source.Archive.IsPath():
		return a.Source.Archive.Path, nil
	}
	return "", errors.New("only a FileAsset or a FileArchive can be copied: give the source as a path")
}

func (a CopyArgs) upload(ctx context.Context) error {
	source, err := a.local()
	if err != nil {
		return err
	}
	about, err := os.Stat(source)
	if err != nil {
		return err
	}
	connection, release, err := a.Connection.open(ctx)
	if err != nil {
		return err
	}
	defer release()
	client, err := sftp.NewClient(connection)
	if err != nil {
		return err
	}
	defer client.Close()

	target := a.RemotePath
	there, err := client.Stat(target)
	switch {
	case err == nil && there.IsDir():
		target = path.Join(target, filepath.Base(source))
	case err == nil && about.IsDir():
		return fmt.Errorf("%s is a file on the server, and %s is a folder", target, source)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if !about.IsDir() {
		return uploadFile(client, source, target, about.Mode())
	}
	return filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, name)
		if err != nil {
			return err
		}
		destination := path.Join(target, filepath.ToSlash(relative))
		if entry.IsDir() {
			return client.MkdirAll(destination)
		}
		about, err := os.Stat(name)
		if err != nil {
			return err
		}
		return uploadFile(client, name, destination, about.Mode())
	})
}

func uploadFile(client *sftp.Client, source, target string, mode fs.FileMode) error {
	local, err := os.Open(source)
	if err != nil {
		return err
	}
	defer local.Close()
	remote, err := client.Create(target)
	if err != nil {
		return fmt.Errorf("%s cannot be written on the server: %w", target, err)
	}
	if _, err = io.Copy(remote, local); err == nil {
		err = remote.Chmod(mode.Perm())
	}
	return errors.Join(err, remote.Close())
}
