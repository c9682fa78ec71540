// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"maps"
	"strings"
)

const maxTags = 50

// tagged finds the tags of any resource, for change. The lock is held.
func (s *Server) tagged(id string) (map[string]string, error) {
	kind, _, _ := strings.Cut(id, "-")
	switch kind {
	case "vol":
		v, err := s.volume(id)
		if err != nil {
			return nil, err
		}
		return v.Tags, nil
	case "snap":
		snap, err := s.snapshot(id)
		if err != nil {
			return nil, err
		}
		return snap.Tags, nil
	case "i":
		i, err := s.instance(id)
		if err != nil {
			return nil, err
		}
		return i.Tags, nil
	default:
		return nil, refuse("InvalidID", "The ID '%s' is not valid", id)
	}
}

// allTagged finds the tags of every resource that a request names, or an error
// before any is changed.
func (s *Server) allTagged(r *request) ([]map[string]string, error) {
	var out []map[string]string
	for _, id := range r.list("ResourceId") {
		tags, err := s.tagged(id)
		if err != nil {
			return nil, err
		}
		out = append(out, tags)
	}
	return out, nil
}

func (s *Server) createTags(r *request) (reply, error) {
	added, err := r.tags("Tag")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	resources, err := s.allTagged(r)
	if err != nil {
		return nil, err
	}
	for _, tags := range resources {
		merged := maps.Clone(tags)
		maps.Copy(merged, added)
		if len(merged) > maxTags {
			return nil, refuse("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
		}
	}
	for _, tags := range resources {
		maps.Copy(tags, added)
	}
	return &done{Return: true}, s.save()
}

// deleteTags removes the keys named; a value that is given must match. No keys
// mean all.
func (s *Server) deleteTags(r *request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resources, err := s.allTagged(r)
	if err != nil {
		return nil, err
	}
	for _, tags := range resources {
		if !r.Has("Tag.1.Key") {
			clear(tags)
		}
		for n := 1; r.Has(member("Tag", n) + ".Key"); n++ {
			key, value := r.text(member("Tag", n)+".Key"), member("Tag", n)+".Value"
			if !r.Has(value) || tags[key] == r.text(value) {
				delete(tags, key)
			}
		}
	}
	return &done{Return: true}, s.save()
}

type tagDescription struct {
	ResourceID   string `xml:"resourceId"`
	ResourceType string `xml:"resourceType"`
	Key          string `xml:"key"`
	Value        string `xml:"value"`
}

type describeTagsReply struct {
	meta
	Tags      set[tagDescription] `xml:"tagSet"`
	NextToken string              `xml:"nextToken,omitempty"`
}

func (s *Server) describeTags(r *request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.tagDescriptions()
	chosen, next, err := choose(r.params, selection[tagDescription]{
		all:  all,
		get:  func(id string) (tagDescription, error) { return all[id], nil },
		attr: tagDescription.attributes,
	})
	if err != nil {
		return nil, err
	}
	return &describeTagsReply{Tags: set[tagDescription]{chosen}, NextToken: next}, nil
}

// tagDescriptions are all tags of all resources, under a name that sorts.
func (s *Server) tagDescriptions() map[string]tagDescription {
	all := map[string]tagDescription{}
	add := func(kind, id string, tags map[string]string) {
		for k, v := range tags {
			all[id+"/"+k] = tagDescription{id, kind, k, v}
		}
	}
	for id, v := range s.st.Volumes {
		add("volume", id, v.Tags)
	}
	for id, snap := range s.st.Snapshots {
		add("snapshot", id, snap.Tags)
	}
	for id, i := range s.st.Instances {
		add("instance", id, i.Tags)
	}
	return all
}

func (t tagDescription) attributes() attributes {
	return attributes{
		"key":           {t.Key},
		"resource-id":   {t.ResourceID},
		"resource-type": {t.ResourceType},
		"value":         {t.Value},
	}.withTags(map[string]string{t.Key: t.Value})
}
