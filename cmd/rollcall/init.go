package main

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
)

//go:embed architectures
var architectureFiles embed.FS

// architectures are those that a configuration can begin with.
var architectures = []string{"full-stack", "microservices", "saas", "mobile", "enterprise"}

func newInit(o *options) *cobra.Command {
	var architecture string
	var force bool
	c := &cobra.Command{
		Use: "init", Short: "Write a commented rollcall.yaml to begin with", Args: cobra.NoArgs,
		Long: "Write a commented rollcall.yaml to begin with, of one of the architectures:\n\n" + choices() + `
It is written to the file of --config, rollcall.yaml by default, and rollcall dev runs it at once.`,
		Example: `  rollcall init                          # asks which
  rollcall init --architecture saas
  rollcall dev --emulate                 # runs it: no account needed`,
		RunE: func(c *cobra.Command, _ []string) error {
			if architecture == "" {
				if !term.IsTerminal(int(os.Stdin.Fd())) {
					return cli.Usagef("say which --architecture: one of %s", strings.Join(architectures, ", "))
				}
				var err error
				if architecture, err = ask(c.Context(), c.InOrStdin(), c.ErrOrStderr()); err != nil {
					return err
				}
			}
			if !slices.Contains(architectures, architecture) {
				return cli.Usagef("--architecture is %q; it must be one of %s", architecture, strings.Join(architectures, ", "))
			}
			path := o.configFile
			if path == "" {
				path = config.DefaultFile
			}
			if err := begin(path, architecture, force); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "wrote %s; try it: rollcall dev --emulate\n", path)
			return nil
		},
	}
	c.Flags().StringVar(&architecture, "architecture", "", strings.Join(architectures, ", "))
	c.Flags().BoolVar(&force, "force", false, "write over the file that is there")
	return c
}

// begin writes a configuration, which says itself what it is for.
func begin(path, architecture string, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644) //nolint:gosec // nothing secret
	if errors.Is(err, fs.ErrExist) {
		return cli.Usagef("%s is there already; --force writes over it, --config FILE writes elsewhere", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(beginning(architecture))
	return errors.Join(err, f.Close())
}

// beginning is an architecture's configuration.
func beginning(architecture string) string {
	what, body, _ := strings.Cut(architectureFile(architecture), "\n\n")
	return what + "\n#\n" + architectureFile("head") + "\n" + body
}

func architectureFile(name string) string {
	text, err := architectureFiles.ReadFile("architectures/" + name + ".yaml")
	if err != nil {
		panic(err) // compiled in
	}
	return string(text)
}

// choices lists the architectures, a numbered line each.
func choices() string {
	var b strings.Builder
	for i, name := range architectures {
		line, _, _ := strings.Cut(architectureFile(name), "\n")
		_, what, _ := strings.Cut(line, ": ")
		fmt.Fprintf(&b, "  %d  %-14s %s\n", i+1, name, what)
	}
	return b.String()
}

// ask asks which, by number or name, until the answer is one.
func ask(ctx context.Context, in io.Reader, out io.Writer) (string, error) {
	fmt.Fprint(out, choices())
	answers := make(chan string)
	go func() {
		defer close(answers)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			select {
			case answers <- strings.TrimSpace(lines.Text()):
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		fmt.Fprint(out, "Which is yours? [1] ")
		select {
		case answer, more := <-answers:
			if answer == "" && more {
				return architectures[0], nil
			}
			if i, err := strconv.Atoi(answer); err == nil && i >= 1 && i <= len(architectures) {
				return architectures[i-1], nil
			}
			if slices.Contains(architectures, answer) {
				return answer, nil
			}
			if !more {
				return "", errors.New("nothing was written")
			}
		case <-ctx.Done():
			fmt.Fprintln(out)
			return "", errors.New("nothing was written")
		}
	}
}
