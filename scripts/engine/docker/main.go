// Command pulumi-resource-docker is the Docker plugin of the Pulumi engine, built from the parts that the published one
// is built from: the Terraform provider for Docker and Pulumi's bridge. Its resources carry the names and arguments of
// the PyPI package pulumi-docker of the same version.
//
// It has neither Image (which builds images) nor the deprecated registry helpers: Zaki uses neither.
package main

import (
	"fmt"
	"unicode"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/info"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// version is set by the linker to the version of the PyPI package.
var version = "0.0.0"

func main() {
	tfbridge.Main("docker", version, docker(), nil)
}

func docker() info.Provider {
	mapped := info.Provider{
		P:       sdkv2.NewProvider(provider.New("dev")()),
		Name:    "docker",
		Version: version,
		Config: map[string]*info.Schema{
			"host": {Default: &info.Default{EnvVars: []string{"DOCKER_HOST"}, Value: "unix:///var/run/docker.sock"}},
			// The plural of a list is what the bridge would make of it.
			"registry_auth": {Name: "registryAuth"},
		},
		Resources: map[string]*info.Resource{
			"docker_container": {
				Tok: resource("Container"),
				// Two containers of one name cannot exist side by side.
				DeleteBeforeReplace: true,
				Fields: map[string]*info.Schema{
					"command":           {Name: "command"},
					"networks_advanced": {Name: "networksAdvanced"},
				},
			},
			"docker_image":          {Tok: resource("RemoteImage"), Fields: map[string]*info.Schema{"name": {Name: "name"}}},
			"docker_registry_image": {Tok: resource("RegistryImage")},
			"docker_tag":            {Tok: resource("Tag")},
			"docker_network":        {Tok: resource("Network")},
			"docker_volume":         {Tok: resource("Volume")},
			"docker_secret":         {Tok: resource("Secret")},
			"docker_config":         {Tok: resource("ServiceConfig")},
			"docker_service":        {Tok: resource("Service")},
			"docker_plugin":         {Tok: resource("Plugin")},
		},
		DataSources: map[string]*info.DataSource{
			"docker_image":          {Tok: function("getRemoteImage")},
			"docker_network":        {Tok: function("getNetwork")},
			"docker_plugin":         {Tok: function("getPlugin")},
			"docker_registry_image": {Tok: function("getRegistryImage")},
			"docker_logs":           {Tok: function("getLogs")},
		},
	}
	mapped.SetAutonaming(255, "-")
	return mapped
}

func resource(name string) tokens.Type {
	return tokens.Type(token(name))
}

func function(name string) tokens.ModuleMember {
	return tokens.ModuleMember(token(name))
}

func token(name string) string {
	file := []rune(name)
	file[0] = unicode.ToLower(file[0])
	return fmt.Sprintf("docker:index/%s:%s", string(file), name)
}
