// Command pulumi-resource-command is the part of the Pulumi engine's Command plugin that Zaki uses: local.Command,
// remote.Command and remote.CopyToRemote, with the arguments of the PyPI package pulumi-command of the same version.
// It has neither assets and archives of a local command nor local.run.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pulumi/pulumi-go-provider/infer"
)

// version is set by the linker to the version of the PyPI package.
var version = "0.0.0"

func main() {
	provider, err := infer.NewProviderBuilder().
		WithResources(
			infer.Resource(&LocalCommand{}),
			infer.Resource(&RemoteCommand{}),
			infer.Resource(&CopyToRemote{}),
		).
		WithNamespace("pulumi").
		Build()
	if err == nil {
		err = provider.Run(context.Background(), "command", version)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
