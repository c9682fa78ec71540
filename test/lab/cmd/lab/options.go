// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/volseal/volseal/test/lab/vm"
)

// options of `lab run`, and of the supervisor it starts.
type options struct {
	keep      bool
	pkg       string // .deb to install; empty: the one in dist
	noPackage bool
	kernel    vm.Kernel
	cpus      int
	verbose   bool
	carry     []string      // more files to put into /lab
	timeout   time.Duration // for each script
	files     []string
}

func parseRun(args []string) (options, error) {
	o := options{}
	flags := newFlags("run")
	flags.BoolVar(&o.keep, "keep", false, "leave the machine up")
	flags.StringVar(&o.pkg, "package", "", "the .deb to install")
	flags.BoolVar(&o.noPackage, "no-package", false, "install none")
	flags.Func("carry", "a file to put into the guest's /lab; may be repeated", func(file string) error {
		o.carry = append(o.carry, file)
		return nil
	})
	flags.StringVar((*string)(&o.kernel), "kernel", string(vm.CloudKernel), "flavour of the guest's kernel: cloud or generic")
	flags.IntVar(&o.cpus, "cpus", vm.CPUs, "processors of the guest")
	flags.BoolVar(&o.verbose, "v", false, "say more")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Minute, "limit for each script")
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("run: %w\n%s", err, usage)
	}
	o.files = flags.Args()
	if o.cpus < 1 || o.cpus > vm.MaxCPUs {
		return o, fmt.Errorf("run: between 1 and %d processors\n%s", vm.MaxCPUs, usage)
	}
	if len(o.files) == 0 && !o.keep {
		return o, errors.New("run: no file named\n" + usage)
	}
	return o, nil
}

// newFlags reports its errors to the caller alone.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

// forSupervisor are the arguments by which the supervisor knows the same.
func (o options) forSupervisor() []string {
	args := []string{"supervise", "--package=" + o.pkg, "--kernel=" + string(o.kernel), "--cpus=" + strconv.Itoa(o.cpus)}
	if o.noPackage {
		args = append(args, "--no-package")
	}
	for _, file := range o.carry {
		args = append(args, "--carry="+file)
	}
	return append(args, "-v", "--keep")
}

// payload finds what goes into the guest: our binaries lie beside this one, and
// the package where `make package` puts it.
func (o options) payload() (map[string]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	bin := filepath.Dir(self)
	files := map[string]string{
		"labctl":   filepath.Join(bin, "labctl"),
		"labguest": filepath.Join(bin, "labguest"),
		"jq":       filepath.Join(bin, "jq"),
		// What the scenarios share; they read it as /lab/lib.sh.
		"lib.sh": filepath.Join(bin, "..", "test", "lab", "scenarios", "lib.sh"),
	}
	for _, path := range o.carry {
		files[filepath.Base(path)] = path
	}
	for _, path := range files {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("find what goes into the guest: %w (run make build)", err)
		}
	}
	if o.noPackage {
		return files, nil
	}
	files[packageName] = o.pkg
	if o.pkg == "" {
		if files[packageName], err = newestPackage(filepath.Join(bin, "..", "dist")); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// newestPackage is the .deb that was made last.
func newestPackage(dist string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dist, "*.deb"))
	if err != nil {
		return "", fmt.Errorf("find package: %w", err)
	}
	newest, when := "", time.Time{}
	for _, path := range found {
		info, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("find package: %w", err)
		}
		if newest == "" || info.ModTime().After(when) {
			newest, when = path, info.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("find package: there is no .deb in %s (run make package, or say --no-package)", filepath.Clean(dist))
	}
	return newest, nil
}

// newLog writes for a person, without time stamps.
func newLog(verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	}))
}
