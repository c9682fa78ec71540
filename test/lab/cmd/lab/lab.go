// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
	"github.com/volseal/volseal/test/lab/vm"
	"github.com/volseal/volseal/test/lab/world"
)

// packageName is that of the package under test, on the payload disk.
const packageName = "volseal.deb"

// installLimit bounds the package's installation, emulation and all.
const installLimit = 3 * time.Minute

// lab is a machine in its world.
type lab struct {
	scratch *scratch
	image   *vm.Image
	machine *vm.Machine
	world   *world.World
}

// startLab boots a fresh machine with the package installed. What it has begun
// when it fails, it ends.
func startLab(ctx context.Context, o options, log *slog.Logger) (*lab, error) {
	files, err := o.payload()
	if err != nil {
		return nil, err
	}
	s, err := makeScratch(os.TempDir())
	if err != nil {
		return nil, err
	}
	l := &lab{scratch: s}
	if err := l.start(ctx, o, files, log); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) start(ctx context.Context, o options, files map[string]string, log *slog.Logger) error {
	if err := l.build(ctx, o, files, log); err != nil {
		return err
	}
	start := time.Now()
	if err := l.boot(ctx); err != nil {
		return err
	}
	booted := time.Since(start)
	if !o.noPackage {
		if err := l.install(ctx); err != nil {
			return err
		}
	}
	log.Info("the machine is up", "boot", booted.Round(100*time.Millisecond), "package", (time.Since(start) - booted).Round(100*time.Millisecond))
	return nil
}

// build gets everything together that the machine and its world are made of.
func (l *lab) build(ctx context.Context, o options, files map[string]string, log *slog.Logger) error {
	cache, err := vm.CacheDir()
	if err != nil {
		return err
	}
	dir := l.scratch.dir
	if l.image, err = vm.OpenImage(ctx, o.kernel, cache, dir, log); err != nil {
		return err
	}
	accel, err := vm.Accelerator(ctx, cache, l.image, os.Getenv("VOLSEAL_LAB_ACCEL"))
	if err != nil {
		return err
	}
	payload, err := vm.Payload(ctx, dir, files)
	if err != nil {
		return err
	}
	l.machine, err = vm.New(vm.Options{Dir: dir, Image: l.image, Payload: payload, Accel: accel, CPUs: o.cpus, Log: log})
	if err != nil {
		return err
	}
	l.world, err = world.Start(ctx, world.Options{
		Dir: filepath.Join(dir, "world"), Plugger: l.machine, Machine: l.machine, Log: log,
	})
	return err
}

func (l *lab) boot(ctx context.Context) error {
	return l.machine.Start(ctx, vm.Network{
		IMDS: l.world.Addr("imds"), KMS: l.world.Addr("kms"), EC2: l.world.Addr("ec2"), Control: l.world.Addr("control"),
	})
}

// settings make the lab's disks pass for EBS: their model is another.
const settings = `f=/etc/volseal/volseal.yaml; [ -e $f ] || echo 'nvme_models: ["QEMU NVMe Ctrl"]' >$f`

// install installs the package as an operator would who has set the endpoints
// beforehand, and then says which disks there are. The file with the endpoints
// is ours, and stays.
func (l *lab) install(ctx context.Context) error {
	err := l.root(ctx, "dpkg", "--force-confold", "--install", filepath.Join(vm.PayloadDir, packageName))
	if err == nil {
		err = l.root(ctx, "sh", "-c", settings)
	}
	if err != nil {
		return fmt.Errorf("install package: %w", err)
	}
	return nil
}

// root runs a command in the guest.
func (l *lab) root(ctx context.Context, argv ...string) error {
	var out bytes.Buffer
	result, err := l.machine.Exec(ctx, guest.Command{
		Argv:    argv,
		Env:     []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"},
		Timeout: installLimit,
	}, &out, &out)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("%s: exit %d %s\n%s", argv[0], result.Code, result.Error, out.String())
	}
	return err
}

// close ends all of it, machine first, so that nothing in the guest sees its
// world fall apart; and makes sure that no process is left.
func (l *lab) close() error {
	var errs []error
	if l.machine != nil {
		errs = append(errs, l.machine.Close())
	}
	if l.world != nil {
		errs = append(errs, l.world.Close())
	}
	if l.image != nil {
		errs = append(errs, l.image.Close())
	}
	errs = append(errs, l.scratch.remove(), endChildren())
	return errors.Join(errs...)
}
