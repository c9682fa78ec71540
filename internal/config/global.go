// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// global decodes volseal.yaml into c, which holds the defaults.
func (c *Config) global(root value) {
	lines := root.object(c.globalFields())
	if c.KMS.Timeout >= c.KMS.ProofMaxAge {
		root.doc.add(lines["kms"], "kms.timeout", "must be shorter than proof_max_age",
			"a proof's age counts from when its request began: one that may take that long would be too old on arrival")
	}
}

func (c *Config) globalFields() []field {
	return []field{
		{"region", func(v value) { v.matching(&c.Region, regionForm, "us-east-1") }},
		{"instance_id", func(v value) { v.matching(&c.InstanceID, instanceForm, "i-0123456789abcdef0") }},
		{"metrics_listen", c.metricsListen},
		{"kms", c.kms},
		{"cache", c.cache},
		{"on_revocation", func(v value) { put(&c.OnRevocation)(v.onRevocation()) }},
		{"revocation_grace", func(v value) { put(&c.RevocationGrace)(v.duration(0, 7*24*time.Hour)) }},
		{"operator_group", func(v value) { v.matching(&c.OperatorGroup, groupForm, "volseal-operators") }},
		{"nvme_models", c.nvmeModels},
	}
}

func (c *Config) kms(v value) {
	v.object([]field{
		{"timeout", func(v value) { put(&c.KMS.Timeout)(v.duration(100*time.Millisecond, 30*time.Second)) }},
		{"proof_max_age", func(v value) { put(&c.KMS.ProofMaxAge)(v.duration(time.Second, time.Minute)) }},
		{"probe_interval", func(v value) { put(&c.KMS.ProbeInterval)(v.duration(time.Second, time.Hour)) }},
	})
}

func (c *Config) cache(v value) {
	v.object([]field{
		{"ttl", func(v value) { put(&c.Cache.TTL)(v.duration(time.Second, time.Hour)) }},
		{"max_volumes_per_data_key", func(v value) { put(&c.Cache.MaxVolumesPerDataKey)(v.integer(1, 128)) }},
	})
}

func (c *Config) metricsListen(v value) {
	s, ok := v.text()
	if !ok {
		return
	}
	const hint = "write an address and a port, such as 127.0.0.1:9797"
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		v.problem(quote(s)+" is not an address with a port", hint)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		v.problem(quote(port)+" is not a port", hint)
		return
	}
	// A name would need the resolver at start, and a wrong answer would show the metrics elsewhere.
	if host != "localhost" && net.ParseIP(host) == nil {
		v.problem(quote(host)+" is not an IP address", hint)
		return
	}
	c.MetricsListen = s
}

// nvmeModels replaces the default models. A model is at most 40 bytes: NVMe
// base specification, Identify Controller.
func (c *Config) nvmeModels(v value) {
	items := v.list(8)
	if len(items) == 0 {
		v.problem("must name at least one model", "leave the key out for EBS itself")
		return
	}
	var models []string
	for _, item := range items {
		s, ok := item.text()
		if !ok {
			continue
		}
		if s == "" || len(s) > 40 || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			item.problem(quote(s)+" is not an NVMe model", "copy it from /sys/class/nvme/nvme0/model")
			continue
		}
		models = append(models, s)
	}
	c.NVMeModels = models
}

// put returns a function that stores a value that was good.
func put[T any](to *T) func(T, bool) {
	return func(x T, ok bool) {
		if ok {
			*to = x
		}
	}
}

// matching stores text of the given form.
func (v value) matching(to *string, form *regexp.Regexp, example string) {
	s, ok := v.text()
	if !ok {
		return
	}
	if !form.MatchString(s) {
		v.problem(quote(s)+" is not of the form "+example, "")
		return
	}
	*to = s
}
