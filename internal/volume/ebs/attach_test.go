// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestView: the domain decides by these fields alone.
func TestView(t *testing.T) {
	base := volume.CloudVolume{
		ID: vol, Encrypted: true, Zone: "us-east-1a",
		KeyARN: "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
	}
	since := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	managed := `<item><associatedResource>arn:aws:x:::thing/1</associatedResource><status>attached</status></item>`
	for name, c := range map[string]struct {
		xml  string
		want func(*volume.CloudVolume)
	}{
		"free":          {volumeXML(vol, "available"), func(v *volume.CloudVolume) { v.State = "available" }},
		"attached here": {volumeXML(vol, "in-use", attachmentXML(here, "attached", "/dev/sdf")), func(v *volume.CloudVolume) { v.State, v.Attachment, v.Since = "in-use", "attached", since }},
		"stuck":         {volumeXML(vol, "in-use", attachmentXML(here, "attaching", "/dev/sdf")), func(v *volume.CloudVolume) { v.State, v.Attachment, v.Since = "in-use", "attaching", since }},
		"busy":          {volumeXML(vol, "in-use", attachmentXML(here, "busy", "/dev/sdf")), func(v *volume.CloudVolume) { v.State, v.Attachment, v.Since = "in-use", "busy", since }},
		"elsewhere":     {volumeXML(vol, "in-use", attachmentXML(there, "attached", "/dev/sdf")), func(v *volume.CloudVolume) { v.State, v.Elsewhere = "in-use", there }},
		"both, multi": {
			volumeXML(vol, "in-use", attachmentXML(there, "attached", "/dev/sdf"), attachmentXML(here, "attached", "/dev/sdg")),
			func(v *volume.CloudVolume) {
				v.State, v.Attachment, v.Since, v.Elsewhere = "in-use", "attached", since, there
			},
		},
		"detached there": {volumeXML(vol, "available", attachmentXML(there, "detached", "/dev/sdf")), func(v *volume.CloudVolume) { v.State = "available" }},
		"held by AWS":    {volumeXML(vol, "in-use", managed), func(v *volume.CloudVolume) { v.State, v.Elsewhere = "in-use", "arn:aws:x:::thing/1" }},
		"held by nobody": {volumeXML(vol, "in-use", `<item><status>attached</status></item>`), func(v *volume.CloudVolume) { v.State, v.Elsewhere = "in-use", "an unnamed holder" }},
	} {
		t.Run(name, func(t *testing.T) {
			e := answers(t, map[string]string{"DescribeVolumes": volumesXML(c.xml)})
			got, err := adapter(t, configFor(e.url)).Volume(t.Context(), vol)
			if err != nil {
				t.Fatal(err)
			}
			want := base
			c.want(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestAttachSendsOnce: the plain case, and the name it asks for.
func TestAttachSendsOnce(t *testing.T) {
	e := answers(t, map[string]string{
		"DescribeVolumes": volumesXML(volumeXML("vol-0aaaaaaaaaaaaaaaa", "in-use", attachmentXML(here, "attached", "/dev/sdf"))),
		"AttachVolume":    attachedXML,
	})
	if err := adapter(t, configFor(e.url)).Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	sent := e.requests("AttachVolume")
	if len(sent) != 1 {
		t.Fatalf("%d requests", len(sent))
	}
	for field, want := range map[string]string{"VolumeId": vol, "InstanceId": here, "Device": "/dev/sdg"} {
		if got := sent[0].Get(field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
}

// TestAttachIdempotent: what is already attached here is left alone, whatever its progress.
func TestAttachIdempotent(t *testing.T) {
	for _, state := range []string{"attaching", "attached", "busy"} {
		e := answers(t, map[string]string{
			"DescribeVolumes": volumesXML(volumeXML(vol, "in-use", attachmentXML(here, state, "/dev/sdf"))),
		})
		if err := adapter(t, configFor(e.url)).Attach(t.Context(), vol); err != nil {
			t.Errorf("%s: %v", state, err)
		}
	}
}

// TestAttachRefused: EC2 says that the state is wrong, and a second look tells why.
func TestAttachRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code   string
		then   string // the volume at the second look
		class  fault.Class
		reason string
	}{
		"won by ourselves":  {"VolumeInUse", volumeXML(vol, "in-use", attachmentXML(here, "attaching", "/dev/sdf")), fault.None, ""},
		"held elsewhere":    {"VolumeInUse", volumeXML(vol, "in-use", attachmentXML(there, "attached", "/dev/sdf")), fault.Misconfigured, "VolumeInUse"},
		"leaving elsewhere": {"IncorrectState", volumeXML(vol, "in-use", attachmentXML(there, "detaching", "/dev/sdf")), fault.Misconfigured, "VolumeInUse"},
		"leaving here":      {"VolumeInUse", volumeXML(vol, "in-use", attachmentXML(here, "detaching", "/dev/sdf")), fault.Unknown, "IncorrectState"},
		"held by nobody":    {"VolumeInUse", volumeXML(vol, "in-use"), fault.Unknown, "VolumeInUse"},
		"being created":     {"IncorrectState", volumeXML(vol, "creating"), fault.Unknown, "IncorrectState"},
		"never created":     {"IncorrectState", volumeXML(vol, "error"), fault.Misconfigured, "volume-error"},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, func(form url.Values) (int, string) {
				switch {
				case form.Get("Action") == "AttachVolume":
					return http.StatusBadRequest, errorXML(c.code, "x")
				case form.Get("VolumeId.1") != "":
					return http.StatusOK, volumesXML(c.then)
				}
				return http.StatusOK, volumesXML()
			})
			err := adapter(t, configFor(e.url)).Attach(t.Context(), vol)
			if c.class == fault.None {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			expect(t, err, c.class, c.reason)
		})
	}
}

// TestAttachUnexplained: when the second look fails, nothing is claimed about who holds the volume.
func TestAttachUnexplained(t *testing.T) {
	e := serve(t, func(form url.Values) (int, string) {
		switch {
		case form.Get("Action") == "AttachVolume":
			return http.StatusBadRequest, errorXML("VolumeInUse", "x")
		case form.Get("VolumeId.1") != "":
			return http.StatusServiceUnavailable, errorXML("Unavailable", "x")
		}
		return http.StatusOK, volumesXML()
	})
	expect(t, adapter(t, configFor(e.url)).Attach(t.Context(), vol), fault.Unreachable, "Unavailable")
}

// TestNameCollision: somebody else attaching at the same moment costs another
// try, and a bounded number of them.
func TestNameCollision(t *testing.T) {
	taken := errorXML("InvalidParameterValue", "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use")
	for _, collisions := range []int{2, 1000} {
		var mu sync.Mutex
		left := collisions
		e := serve(t, func(form url.Values) (int, string) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case form.Get("Action") == "DescribeVolumes":
				return http.StatusOK, volumesXML()
			case left > 0:
				left--
				return http.StatusBadRequest, taken
			}
			return http.StatusOK, attachedXML
		})
		err := adapter(t, configFor(e.url)).Attach(t.Context(), vol)
		names := map[string]bool{}
		for _, form := range e.requests("AttachVolume") {
			names[form.Get("Device")] = true
		}
		if collisions < attachAttempts {
			if err != nil || len(names) != collisions+1 {
				t.Errorf("%d collisions: %v after the names %v", collisions, err, names)
			}
			continue
		}
		expect(t, err, fault.Misconfigured, "InvalidParameterValue")
		if len(names) != attachAttempts {
			t.Errorf("tried the names %v", names)
		}
	}
}

// TestNoNameLeft: an instance with every name in use is refused before EC2 is asked.
func TestNoNameLeft(t *testing.T) {
	var held []string
	for i, name := range pool() {
		held = append(held, volumeXML(fmt.Sprintf("vol-%017x", i), "in-use", attachmentXML(here, "attached", name)))
	}
	e := answers(t, map[string]string{"DescribeVolumes": volumesXML(held...)})
	expect(t, adapter(t, configFor(e.url)).Attach(t.Context(), vol), fault.Misconfigured, "no-device-name")
}

// TestLongAnswers: an answer that comes faster than the request's end is
// noticed is read to its end all the same, see plainBody.
func TestLongAnswers(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, volumeXML(fmt.Sprintf("vol-%017x", i), "in-use", attachmentXML(here, "attached", "/dev/sdf")))
	}
	e := answers(t, map[string]string{"DescribeVolumes": volumesXML(many...)})
	a := adapter(t, configFor(e.url))
	a.pace.limiter.SetBurst(200)
	for range 50 {
		if _, err := a.attachedHere(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConcurrentAttach: volumes attached at one moment never share a name. The
// endpoint answers none before all have asked.
func TestConcurrentAttach(t *testing.T) {
	const volumes = 12
	var all sync.WaitGroup
	all.Add(volumes)
	e := serve(t, func(form url.Values) (int, string) {
		if form.Get("Action") == "AttachVolume" {
			all.Done()
			all.Wait()
			return http.StatusOK, attachedXML
		}
		return http.StatusOK, volumesXML()
	})
	a := adapter(t, configFor(e.url))
	a.pace.limiter.SetBurst(2 * volumes)
	var done sync.WaitGroup
	for i := range volumes {
		done.Go(func() {
			if err := a.Attach(t.Context(), fmt.Sprintf("vol-%017x", i)); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	names := map[string]bool{}
	for _, form := range e.requests("AttachVolume") {
		names[form.Get("Device")] = true
	}
	if len(names) != volumes {
		t.Errorf("%d names for %d volumes: %v", len(names), volumes, names)
	}
}

// TestEndlessPages: an endpoint that pages for ever must not hold the worker for ever.
func TestEndlessPages(t *testing.T) {
	page := strings.Replace(volumesXML(), "</volumeSet>", "</volumeSet><nextToken>more</nextToken>", 1)
	e := answers(t, map[string]string{"DescribeVolumes": page})
	expect(t, adapter(t, configFor(e.url)).Attach(t.Context(), vol), fault.Unknown, "too-many-pages")
}

// TestDetachNeverForces: the instance is named, and force is not asked for.
func TestDetachNeverForces(t *testing.T) {
	e := answers(t, map[string]string{"DetachVolume": detachedXML})
	if err := adapter(t, configFor(e.url)).Detach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	sent := e.requests("DetachVolume")
	if len(sent) != 1 || sent[0].Get("InstanceId") != here || sent[0].Get("Force") != "false" {
		t.Errorf("sent %v", sent)
	}
}

// TestDetachIdempotent: nothing left to detach is success; a device in use is not.
func TestDetachIdempotent(t *testing.T) {
	for name, c := range map[string]struct {
		code   string
		then   string
		class  fault.Class
		reason string
	}{
		"free":           {"IncorrectState", volumeXML(vol, "available"), fault.None, ""},
		"never here":     {"InvalidAttachment.NotFound", volumeXML(vol, "in-use", attachmentXML(there, "attached", "/dev/sdf")), fault.None, ""},
		"on its way":     {"IncorrectState", volumeXML(vol, "in-use", attachmentXML(here, "detaching", "/dev/sdf")), fault.None, ""},
		"in use":         {"IncorrectState", volumeXML(vol, "in-use", attachmentXML(here, "busy", "/dev/sdf")), fault.Unknown, "busy"},
		"still attached": {"IncorrectState", volumeXML(vol, "in-use", attachmentXML(here, "attached", "/dev/sdf")), fault.Unknown, "IncorrectState"},
		"not allowed":    {"UnauthorizedOperation", volumeXML(vol, "in-use"), fault.Misconfigured, "UnauthorizedOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			e := answers(t, map[string]string{"DetachVolume": errorXML(c.code, "x"), "DescribeVolumes": volumesXML(c.then)})
			err := adapter(t, configFor(e.url)).Detach(t.Context(), vol)
			if c.class == fault.None {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			expect(t, err, c.class, c.reason)
		})
	}
}
