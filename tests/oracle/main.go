// Command oracle answers what the originals think of an input: one JSON object
// on a line of stdin is a question, one on a line of stdout its answer. An input
// that the original refuses is answered by its words, as "error".
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/pkg/kvfile"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/net/http/httpproxy"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

type object = map[string]any

var questions = map[string]func(json.RawMessage) (object, error){
	"image":      image,
	"name":       name,
	"quantity":   quantity,
	"kubeconfig": kubeconfig,
	"proxy":      proxy,
	"patch":      patch,
	"env_file":   envFile,
	"ignore":     ignore,
}

// image is how docker, containerd and the kubelet read a reference.
func image(raw json.RawMessage) (object, error) {
	var asked struct{ Text string }
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	_, anyErr := reference.ParseAnyReference(asked.Text)
	named, err := reference.ParseNormalizedNamed(asked.Text)
	if err != nil {
		return object{"error": err.Error(), "any": anyErr == nil}, nil
	}
	answer := object{
		"any":      anyErr == nil,
		"text":     named.String(),
		"familiar": reference.FamiliarString(named),
		"domain":   reference.Domain(named),
		"path":     reference.Path(named),
		"tag":      nil,
		"digest":   nil,
	}
	if tagged, ok := named.(reference.Tagged); ok {
		answer["tag"] = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		answer["digest"] = digested.Digest().String()
	}
	return answer, nil
}

// kinds are what names are checked by, each with the words for what is wrong.
var kinds = map[string]func(string) []string{
	"env":           validation.IsRelaxedEnvVarName,
	"env_strict":    validation.IsEnvVarName,
	"config_key":    validation.IsConfigMapKey,
	"label_value":   validation.IsValidLabelValue,
	"label_key":     validation.IsQualifiedName,
	"dns_label":     validation.IsDNS1123Label,
	"dns_subdomain": validation.IsDNS1123Subdomain,
	"dns1035_label": validation.IsDNS1035Label,
	"port_name":     validation.IsValidPortName,
}

func name(raw json.RawMessage) (object, error) {
	var asked struct{ Text, Kind string }
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	check := kinds[asked.Kind]
	if check == nil {
		return nil, fmt.Errorf("no kind of name is called %q", asked.Kind)
	}
	if wrong := check(asked.Text); len(wrong) > 0 {
		return object{"error": strings.Join(wrong, "; ")}, nil
	}
	return object{}, nil
}

// quantity also tells the exact decimal, and the thousandths, rounded up, that
// a CPU's amount is counted in.
func quantity(raw json.RawMessage) (object, error) {
	var asked struct{ Text string }
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	parsed, err := resource.ParseQuantity(asked.Text)
	if err != nil {
		return object{"error": err.Error()}, nil
	}
	canonical, milli := parsed.String(), parsed.MilliValue()
	decimal := parsed.AsDec().String()
	if strings.Contains(decimal, ".") {
		decimal = strings.TrimRight(strings.TrimRight(decimal, "0"), ".")
	}
	return object{"canonical": canonical, "milli": milli, "decimal": decimal}, nil
}

// kubeconfig is what kubectl makes of the environment and its options. Options
// have the names of kubectl's, without dashes.
func kubeconfig(raw json.RawMessage) (object, error) {
	var asked struct {
		Env     map[string]string
		Cwd     string
		Options map[string]string
	}
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	if asked.Cwd != "" {
		if err := os.Chdir(asked.Cwd); err != nil {
			return nil, err
		}
	}
	os.Clearenv()
	for key, value := range asked.Env {
		if err := os.Setenv(key, value); err != nil {
			return nil, err
		}
	}
	// The library looks for the home folder as it starts.
	clientcmd.RecommendedHomeFile = filepath.Join(asked.Env["HOME"], ".kube", "config")
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	overrides := &clientcmd.ConfigOverrides{}
	fields := map[string]*string{
		"kubeconfig":            &rules.ExplicitPath,
		"context":               &overrides.CurrentContext,
		"cluster":               &overrides.Context.Cluster,
		"user":                  &overrides.Context.AuthInfo,
		"namespace":             &overrides.Context.Namespace,
		"server":                &overrides.ClusterInfo.Server,
		"token":                 &overrides.AuthInfo.Token,
		"as":                    &overrides.AuthInfo.Impersonate,
		"as-uid":                &overrides.AuthInfo.ImpersonateUID,
		"tls-server-name":       &overrides.ClusterInfo.TLSServerName,
		"certificate-authority": &overrides.ClusterInfo.CertificateAuthority,
	}
	for option, value := range asked.Options {
		field := fields[option]
		if field == nil {
			return nil, fmt.Errorf("no option is called %q", option)
		}
		*field = value
	}
	loading := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	merged, err := loading.RawConfig()
	if err != nil {
		return object{"error": err.Error(), "stage": "load"}, nil
	}
	answer := object{"current_context": merged.CurrentContext, "contexts": slices.Sorted(maps.Keys(merged.Contexts))}
	refuse := func(stage string, err error) (object, error) {
		answer["stage"], answer["error"] = stage, err.Error()
		return answer, nil
	}
	namespace, _, err := loading.Namespace()
	if err != nil {
		return refuse("namespace", err)
	}
	answer["namespace"] = namespace
	config, err := loading.ClientConfig()
	if err != nil {
		return refuse("config", err)
	}
	answer["server"] = config.Host
	answer["server_name"] = config.ServerName
	answer["insecure"] = config.Insecure
	answer["ca_file"], answer["ca_data"] = config.CAFile, string(config.CAData)
	answer["cert_file"], answer["cert_data"] = config.CertFile, string(config.CertData)
	answer["key_file"], answer["key_data"] = config.KeyFile, string(config.KeyData)
	answer["token"], answer["token_file"] = config.BearerToken, config.BearerTokenFile
	answer["username"], answer["password"] = config.Username, config.Password
	answer["impersonate"] = object{
		"user": config.Impersonate.UserName, "uid": config.Impersonate.UID,
		"groups": config.Impersonate.Groups, "extra": config.Impersonate.Extra,
	}
	answer["disable_compression"] = config.DisableCompression
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return refuse("server", err)
	}
	answer["url"] = base.String()
	// What the certificates are is looked at once a connection is made.
	if _, err := rest.TLSConfigFor(config); err != nil {
		return refuse("tls", err)
	}
	if config.AuthProvider != nil {
		answer["auth_provider"] = config.AuthProvider.Name
	}
	if plugin := config.ExecProvider; plugin != nil {
		answer["exec"] = object{
			"command": plugin.Command, "args": plugin.Args, "env": plugin.Env, "api_version": plugin.APIVersion,
			"install_hint": plugin.InstallHint, "interactive_mode": string(plugin.InteractiveMode),
			"provide_cluster_info": plugin.ProvideClusterInfo,
		}
	}
	// Of the proxy, the configuration has a function alone.
	context := merged.Contexts[first(overrides.CurrentContext, merged.CurrentContext)]
	if context != nil {
		if cluster := merged.Clusters[first(overrides.Context.Cluster, context.Cluster)]; cluster != nil {
			answer["proxy"] = cluster.ProxyURL
		}
	}
	return answer, nil
}

// proxy is the one that Go programs, kubectl among them, take for a URL.
func proxy(raw json.RawMessage) (object, error) {
	var asked struct{ URL, HTTP, HTTPS, No string }
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	wanted, err := url.Parse(asked.URL)
	if err != nil {
		return nil, err
	}
	config := httpproxy.Config{HTTPProxy: asked.HTTP, HTTPSProxy: asked.HTTPS, NoProxy: asked.No}
	found, err := config.ProxyFunc()(wanted)
	if err != nil {
		return object{"error": err.Error()}, nil
	}
	if found == nil {
		return object{"proxy": ""}, nil
	}
	return object{"proxy": found.String()}, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// patch is the strategic merge that kubectl patch and the API server do.
func patch(raw json.RawMessage) (object, error) {
	var asked struct{ Template, Patch json.RawMessage }
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	merged, err := strategicpatch.StrategicMergePatch(asked.Template, asked.Patch, corev1.PodTemplateSpec{})
	if err != nil {
		return object{"error": err.Error()}, nil
	}
	// The API server then reads it into its types, where wrong ones show.
	answer := object{"result": json.RawMessage(merged)}
	if err := json.Unmarshal(merged, &corev1.PodTemplateSpec{}); err != nil {
		answer["decoding"] = err.Error()
	}
	return answer, nil
}

// envFile is docker run --env-file, in an environment of its own.
func envFile(raw json.RawMessage) (object, error) {
	var asked struct {
		Path string
		Env  map[string]string
	}
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	lines, err := kvfile.Parse(asked.Path, func(key string) (string, bool) {
		value, found := asked.Env[key]
		return value, found
	})
	if err != nil {
		return object{"error": err.Error()}, nil
	}
	return object{"lines": lines}, nil
}

// ignore tells which paths a .dockerignore leaves out, each for itself.
func ignore(raw json.RawMessage) (object, error) {
	var asked struct {
		Text  string
		Paths []string
	}
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(strings.NewReader(asked.Text))
	if err != nil {
		return object{"error": err.Error()}, nil
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return object{"error": err.Error()}, nil
	}
	ignored := []string{}
	for _, path := range asked.Paths {
		matches, err := matcher.MatchesOrParentMatches(path)
		if err != nil {
			return object{"error": err.Error()}, nil
		}
		if matches {
			ignored = append(ignored, path)
		}
	}
	return object{"patterns": patterns, "ignored": ignored}, nil
}

func answer(line []byte) (made object) {
	// The libraries' own panics are answers, too.
	defer func() {
		if reason := recover(); reason != nil {
			made = object{"error": fmt.Sprint(reason), "panic": true}
		}
	}()
	var asked struct{ Op string }
	if err := json.Unmarshal(line, &asked); err != nil {
		return object{"misuse": err.Error()}
	}
	ask := questions[asked.Op]
	if ask == nil {
		return object{"misuse": fmt.Sprintf("no question is called %q", asked.Op)}
	}
	made, err := ask(line)
	if err != nil {
		return object{"misuse": err.Error()}
	}
	return made
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for lines.Scan() {
		if err := out.Encode(answer(lines.Bytes())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
