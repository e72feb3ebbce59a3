// Command kube is every Kubernetes program that the test cluster runs, in one
// binary: linking them together shares nearly all of their code, so this
// builds in the time and the space of one of them.
//
// With them comes "forward", which stands in for kube-proxy: it carries the one
// Service address that matters to pods, that of the API server.
//
// The program is chosen by the name the binary is called under (a link named
// kubectl, say) or else by the first argument.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 func() *cobra.Command { return newKubeletCommand(kubelet.NewKubeletCommand) },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"forward":                 newForwardCommand,
}

// newKubeletCommand calls a function that takes a context, but in old versions.
func newKubeletCommand(function any) *cobra.Command {
	if old, ok := function.(func() *cobra.Command); ok {
		return old()
	}
	return function.(func(context.Context) *cobra.Command)(context.Background())
}

func newForwardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forward LISTEN TARGET",
		Short: "Carry TCP connections made to LISTEN over to TARGET",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			listener, err := net.Listen("tcp", args[0])
			if err != nil {
				return err
			}
			for {
				client, err := listener.Accept()
				if err != nil {
					return err
				}
				go forward(client, args[1])
			}
		},
	}
}

func forward(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer server.Close()
	// TLS ends both directions by itself, so the first end of either is the
	// end of the connection.
	done := make(chan struct{}, 2)
	for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(c[0], c[1])
			done <- struct{}{}
		}()
	}
	<-done
}

func main() {
	name := filepath.Base(os.Args[0])
	if programs[name] == nil && len(os.Args) > 1 {
		// Drop our own name, so that each program sees the arguments that it
		// would see as a binary of its own (kubectl parses os.Args itself).
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	newCommand := programs[name]
	if newCommand == nil {
		names := make([]string, 0, len(programs))
		for n := range programs {
			names = append(names, n)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: kube PROGRAM [ARG...]\nprograms: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	if name == "kubectl" {
		// As kubectl's own main does: errors are printed once, in its style.
		if err := cli.RunNoErrOutput(newCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return
	}
	os.Exit(cli.Run(newCommand()))
}
