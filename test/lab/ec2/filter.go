// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"encoding/base64"
	"maps"
	"path"
	"slices"
	"strings"
)

// attributes are what a resource can be filtered by: a filter's name to the
// values the resource has under it.
type attributes map[string][]string

// withTags adds tag-key and a tag:KEY for each.
func (a attributes) withTags(tags map[string]string) attributes {
	a["tag-key"] = slices.Collect(maps.Keys(tags))
	for k, v := range tags {
		a["tag:"+k] = []string{v}
	}
	return a
}

// match reports whether a has, for every filter of the request, one of its
// values; * and ? are wildcards. A filter that the resource type does not know
// is an error, as on AWS.
func (p params) match(a attributes) (bool, error) {
	for n := 1; p.Has(member("Filter", n) + ".Name"); n++ {
		name, wanted := p.Get(member("Filter", n)+".Name"), p.list(member("Filter", n)+".Value")
		have, known := a[name]
		if !known && !strings.HasPrefix(name, "tag:") {
			return false, invalid("The filter '%s' is invalid", name)
		}
		if !slices.ContainsFunc(have, func(h string) bool { return matchesAny(wanted, h) }) {
			return false, nil
		}
	}
	return true, nil
}

func matchesAny(patterns []string, value string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		// path.Match knows * and ? too, but stops at a slash and gives [ a meaning.
		pattern = strings.ReplaceAll(strings.ReplaceAll(pattern, "/", "\x00"), "[", `\[`)
		ok, err := path.Match(pattern, strings.ReplaceAll(value, "/", "\x00"))
		return err == nil && ok
	})
}

// selection is what a Describe operation works on.
type selection[T any] struct {
	all  map[string]T
	ids  []string                // asked for by id; none: all of them
	get  func(string) (T, error) // by id, with the error for one that is not there
	attr func(T) attributes
}

// choose returns the resources that a Describe request asks for, in order of
// id, and the token of the next page, if any.
func choose[T any](p params, from selection[T]) (chosen []T, next string, err error) {
	after, limit, err := p.page(len(from.ids) > 0)
	if err != nil {
		return nil, "", err
	}
	ids := slices.Sorted(maps.Keys(from.all))
	if len(from.ids) > 0 {
		ids = slices.Compact(slices.Sorted(slices.Values(from.ids)))
	}
	last := ""
	for _, id := range ids {
		item, err := from.get(id)
		if err != nil {
			return nil, "", err
		}
		ok, err := p.match(from.attr(item))
		if err != nil {
			return nil, "", err
		}
		if !ok || id <= after {
			continue
		}
		if limit > 0 && len(chosen) == limit {
			return chosen, pageToken(last), nil
		}
		chosen, last = append(chosen, item), id
	}
	return chosen, "", nil
}

const pagePrefix = "after:"

func pageToken(id string) string {
	return base64.StdEncoding.EncodeToString([]byte(pagePrefix + id))
}

// page reads NextToken and MaxResults: the id after which the page begins, and
// its size, 0 for all.
func (p params) page(byID bool) (after string, limit int, err error) {
	if limit, err = p.number("MaxResults"); err != nil {
		return "", 0, err
	}
	if p.Has("MaxResults") {
		switch {
		case byID:
			return "", 0, refuse("InvalidParameterCombination", "The parameter IDs cannot be used with the parameter maxResults")
		case limit < 5:
			return "", 0, invalid("Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than or equal to 5.", limit)
		}
		limit = min(limit, 1000)
	}
	token := p.text("NextToken")
	if token == "" {
		return "", limit, nil
	}
	raw, err := base64.StdEncoding.DecodeString(token)
	after, ok := strings.CutPrefix(string(raw), pagePrefix)
	if err != nil || !ok {
		return "", 0, invalid("Unable to parse pagination token")
	}
	return after, limit, nil
}
