// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// params are the parameters of a Query request: flat names, with lists and
// structures spelled as Name.1.Field.
type params struct{ url.Values }

func (p params) text(name string) string { return p.Get(name) }

func (p params) flag(name string) (bool, error) {
	switch v := p.Get(name); v {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, invalid("Value (%s) for parameter %s is invalid. Expecting a boolean", v, name)
	}
}

// number is 0 for a parameter that is not there.
func (p params) number(name string) (int, error) {
	v := p.Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, invalid("Value (%s) for parameter %s is invalid. Expecting a non-negative integer", v, name)
	}
	return n, nil
}

// list is Name.1, Name.2, … up to the first gap.
func (p params) list(name string) []string {
	var out []string
	for n := 1; p.Has(member(name, n)); n++ {
		out = append(out, p.Get(member(name, n)))
	}
	return out
}

func member(name string, n int) string { return fmt.Sprintf("%s.%d", name, n) }

// tags reads Tag.N.Key and Tag.N.Value under a prefix.
func (p params) tags(prefix string) (map[string]string, error) {
	out := map[string]string{}
	for n := 1; p.Has(member(prefix, n) + ".Key"); n++ {
		key, value := p.Get(member(prefix, n)+".Key"), p.Get(member(prefix, n)+".Value")
		switch {
		case key == "" || len(key) > 127 || len(value) > 255:
			return nil, invalid("Tag key %q or its value is too long or empty", key)
		case strings.HasPrefix(key, "aws:"):
			return nil, invalid("Tag keys starting with 'aws:' are reserved for internal use")
		}
		out[key] = value
	}
	return out, nil
}

// tagsFor reads the tags that a request gives to a new resource.
func (p params) tagsFor(resourceType string) (map[string]string, error) {
	prefix := member("TagSpecification", 1) // one resource, one specification
	switch got := p.Get(prefix + ".ResourceType"); got {
	case "":
		return map[string]string{}, nil
	case resourceType:
		return p.tags(prefix + ".Tag")
	default:
		return nil, invalid("'%s' is not a valid taggable resource type for this operation.", got)
	}
}

// subject is the resource a request is about, for the log of calls.
func (p params) subject() string {
	for _, name := range []string{"VolumeId", "SnapshotId", "SourceSnapshotId", "ResourceId.1", "VolumeId.1", "SnapshotId.1", "InstanceId.1"} {
		if v := p.Get(name); v != "" {
			return v
		}
	}
	return ""
}
