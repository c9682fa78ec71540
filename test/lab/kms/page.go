// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/base64"
	"slices"
)

// page are the members that every listing has.
type page struct {
	Limit  *int
	Marker string
}

const defaultLimit = 100

// paginate picks the part of the sorted items that was asked for, and begins
// the result with its Truncated and NextMarker. The marker hides the name of
// the last item shown, so that a listing goes on where it was though items came
// or went meanwhile.
func paginate[T any](in page, items []T, name func(T) string) ([]T, map[string]any, error) {
	var c constraints
	c.number("limit", in.Limit, 1, 1000)
	if err := c.err(); err != nil {
		return nil, nil, err
	}
	after, err := base64.URLEncoding.DecodeString(in.Marker)
	if err != nil {
		return nil, nil, refuse("InvalidMarkerException", "Invalid marker")
	}
	if len(after) > 0 {
		items = slices.DeleteFunc(slices.Clone(items), func(item T) bool { return name(item) <= string(after) })
	}
	limit := defaultLimit
	if in.Limit != nil {
		limit = *in.Limit
	}
	if len(items) <= limit {
		return items, map[string]any{"Truncated": false}, nil
	}
	shown := items[:limit]
	marker := base64.URLEncoding.EncodeToString([]byte(name(shown[limit-1])))
	return shown, map[string]any{"Truncated": true, "NextMarker": marker}, nil
}
