// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Network says where the host serves what the guest reaches at the addresses of
// EC2's link-local network; each is a loopback host:port. There is no other way
// out of the guest.
type Network struct {
	IMDS, KMS, EC2, Control string
}

// The guest's side of the network, port 80 each. The image names them too.
const (
	addrIMDS    = "169.254.169.254"
	addrKMS     = "169.254.169.10"
	addrEC2     = "169.254.169.11"
	addrControl = "169.254.169.12"
)

// slots is how many volumes fit at once. Each slot costs 20 ms of every boot.
const slots = 16

// rootSerial is that of the root volume, which no scenario may have.
const rootSerial = "vol0f00d5ea1ed000001"

// The streams that QEMU inherits, as descriptors.
const (
	fdQMP   = 3
	fdGuest = 4
)

// nvmeVectors is how many interrupts a disk has: one for all of its queues. With
// one for each, which the kernel then spreads over the processors, some disk of a
// busy host now and then sends its interrupts nowhere, and each of its
// operations takes the 30 s after which the kernel looks for itself.
const nvmeVectors = 1

// Kernel parameters. The root partition is waited for by its UUID; the rest
// saves boot time: no console noise, no self-tests, no mitigations of a CPU that
// is emulated. Code lies where it always lies: QEMU translates it anew for every
// address at which it is run, and so a program of libraries took four times as long
// to start. A panic ends QEMU, since it may not reboot.
var kernelParameters = []string{
	"root=PARTUUID=" + rootPartition, "rootwait", "rw", "console=ttyS0", "quiet", "panic=-1",
	// On a busy host the kernel finds fault with timers and clocks that are right.
	"no_timer_check", "tsc=reliable",
	// QEMU's NVMe now and then overlooks a doorbell, and the queue stands still until
	// the kernel aborts what is in it and resets the controller: by default a minute.
	"nvme_core.io_timeout=10",
	"norandmaps", "nokaslr",
	"net.ifnames=0", "8250.nr_uarts=1", "mitigations=off", "cryptomgr.notests", "lsm=landlock,yama,bpf", "audit=0",
	"rcupdate.rcu_expedited=1", "random.trust_cpu=1",
	"systemd.show_status=0", "systemd.machine_id=5ea1ed0000000000000000000000ab0b",
}

// hardware is one QEMU to start.
type hardware struct {
	accel   string // "kvm" or "tcg"
	cpus    int
	kernel  string
	initrd  string // "" for none
	overlay string // qcow2
	payload string // raw, read-only
	console string // file for the kernel's console
	socat   string
	network Network
	disks   []disk // plugged from the start
}

// disk is a volume in a slot.
type disk struct {
	slot   int
	serial string // also names its device and its node for QMP
	image  string // path
}

// args is the command line of the whole machine.
func (h hardware) args() []string {
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"}
	args = append(args, cpuArgs(h.accel)...)
	args = append(args,
		"-smp", strconv.Itoa(h.cpus), "-m", "2048",
		"-kernel", h.kernel, "-append", strings.Join(kernelParameters, " "),
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=guest,fd=%d", fdGuest),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=guest,name=org.volseal.lab",
		"-chardev", "file,id=console,append=on,path="+escape(h.console), "-serial", "chardev:console",
		// What the guest flushed is safe from the end of QEMU as it is: it need
		// not wait for the host's disk, on a disk that is thrown away.
		"-blockdev", "driver=qcow2,node-name=root,file.driver=file,file.cache.no-flush=on,cache.no-flush=on,file.filename="+escape(h.overlay),
		"-device", fmt.Sprintf("nvme,drive=root,serial=%s,bus=pcie.0,addr=4,msix_qsize=%d", rootSerial, nvmeVectors),
		"-blockdev", "driver=raw,node-name=payload,read-only=on,file.driver=file,file.read-only=on,file.filename="+escape(h.payload),
		"-device", "virtio-blk-pci,drive=payload,serial=payload,romfile=",
		"-netdev", h.netdev(), "-device", "virtio-net-pci,netdev=net,romfile=",
	)
	if h.initrd != "" {
		args = append(args, "-initrd", h.initrd)
	}
	for slot := range slots {
		args = append(args, "-device", portArg(slot))
	}
	for _, d := range h.disks {
		args = append(args,
			"-blockdev", fmt.Sprintf("driver=raw,node-name=%s,discard=unmap,cache.direct=off,cache.no-flush=off,"+
				"file.driver=file,file.discard=unmap,file.cache.direct=off,file.cache.no-flush=off,file.filename=%s", d.serial, escape(d.image)),
			"-device", fmt.Sprintf("nvme,id=%s,drive=%s,serial=%s,bus=%s,msix_qsize=%d", d.serial, d.serial, d.serial, portID(d.slot), nvmeVectors))
	}
	return args
}

// cpuArgs leaves out of the emulation what costs a boot seconds: nested
// virtualisation, for which udev loads KVM, and page tables of five levels; and the
// word that strings are moved fast by the byte, as here each byte is an instruction:
// to zero a page took 25 µs, and every new page is.
func cpuArgs(accel string) []string {
	machine := []string{"-machine", "q35,smm=off,vmport=off,sata=off,usb=off,smbus=off"}
	if accel == accelKVM {
		return append(machine, "-accel", "kvm", "-cpu", "max")
	}
	return append(machine, "-accel", "tcg,thread=multi", "-cpu", "max,svm=off,la57=off,erms=off,fsrm=off")
}

// portID names the hot-plug port of a slot.
func portID(slot int) string { return fmt.Sprintf("port%d", slot) }

// portArg is one port: eight of them share a device number. They need no I/O
// space, of which there is not enough for all.
func portArg(slot int) string {
	return fmt.Sprintf("pcie-root-port,id=%s,chassis=%d,slot=%d,bus=pcie.0,addr=%#x.%d,multifunction=on,io-reserve=0",
		portID(slot), slot+1, slot+1, 0x10+slot/8, slot%8)
}

// netdev forwards each address through a process of its own per connection: the
// form that shares one connection hangs after a few requests.
func (h hardware) netdev() string {
	var b strings.Builder
	b.WriteString("user,id=net,restrict=on,ipv6=off,net=169.254.169.0/24,host=169.254.169.2,dns=169.254.169.3,dhcpstart=169.254.169.15")
	for _, forward := range [][2]string{
		{addrIMDS, h.network.IMDS}, {addrKMS, h.network.KMS}, {addrEC2, h.network.EC2}, {addrControl, h.network.Control},
	} {
		if forward[1] == "" {
			continue
		}
		fmt.Fprintf(&b, ",guestfwd=tcp:%s:80-cmd:%s STDIO TCP4:%s", forward[0], escape(h.socat), escape(forward[1]))
	}
	return b.String()
}

// escape keeps a comma in a value from ending it.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// freeSlot is the lowest slot that no disk has, or -1.
func freeSlot(disks []disk) int {
	for slot := range slots {
		if !slices.ContainsFunc(disks, func(d disk) bool { return d.slot == slot }) {
			return slot
		}
	}
	return -1
}
