// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"maps"
	"slices"
	"time"
)

const timeFormat = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }

type tagItem struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func tagItems(tags map[string]string) set[tagItem] {
	var out set[tagItem]
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out.Items = append(out.Items, tagItem{k, tags[k]})
	}
	return out
}

type attachmentItem struct {
	VolumeID            string `xml:"volumeId"`
	InstanceID          string `xml:"instanceId"`
	Device              string `xml:"device"`
	Status              string `xml:"status"`
	AttachTime          string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

func (a attachment) item(volumeID string) attachmentItem {
	return attachmentItem{
		VolumeID:   volumeID,
		InstanceID: a.Instance,
		Device:     a.Device,
		Status:     a.State,
		AttachTime: stamp(a.Since),
	}
}

type volumeItem struct {
	VolumeID           string              `xml:"volumeId"`
	Size               int                 `xml:"size"`
	SnapshotID         string              `xml:"snapshotId"`
	AvailabilityZone   string              `xml:"availabilityZone"`
	Status             string              `xml:"status"`
	CreateTime         string              `xml:"createTime"`
	Attachments        set[attachmentItem] `xml:"attachmentSet"`
	Tags               set[tagItem]        `xml:"tagSet"`
	VolumeType         string              `xml:"volumeType"`
	IOPS               int                 `xml:"iops,omitempty"`
	Encrypted          bool                `xml:"encrypted"`
	KMSKeyID           string              `xml:"kmsKeyId,omitempty"`
	MultiAttachEnabled bool                `xml:"multiAttachEnabled"`
}

func (v *volume) item() volumeItem {
	out := volumeItem{
		VolumeID:           v.ID,
		Size:               v.Size,
		SnapshotID:         v.Snapshot,
		AvailabilityZone:   v.Zone,
		Status:             v.State,
		CreateTime:         stamp(v.Created),
		Tags:               tagItems(v.Tags),
		VolumeType:         v.Type,
		IOPS:               v.IOPS,
		MultiAttachEnabled: v.MultiAttach,
	}
	for _, a := range v.Attachments {
		out.Attachments.Items = append(out.Attachments.Items, a.item(v.ID))
	}
	if v.Sealed != nil {
		out.Encrypted, out.KMSKeyID = true, v.Sealed.Key
	}
	return out
}

type snapshotItem struct {
	SnapshotID  string       `xml:"snapshotId"`
	VolumeID    string       `xml:"volumeId"`
	Status      string       `xml:"status"`
	Message     string       `xml:"statusMessage,omitempty"`
	StartTime   string       `xml:"startTime"`
	Progress    string       `xml:"progress"`
	OwnerID     string       `xml:"ownerId"`
	VolumeSize  int          `xml:"volumeSize"`
	Description string       `xml:"description"`
	Encrypted   bool         `xml:"encrypted"`
	KMSKeyID    string       `xml:"kmsKeyId,omitempty"`
	Tags        set[tagItem] `xml:"tagSet"`
}

func (snap *snapshot) item(owner string) snapshotItem {
	out := snapshotItem{
		SnapshotID:  snap.ID,
		VolumeID:    snap.Volume,
		Status:      snap.State,
		Message:     snap.Message,
		StartTime:   stamp(snap.Started),
		OwnerID:     owner,
		VolumeSize:  snap.Size,
		Description: snap.Description,
		Tags:        tagItems(snap.Tags),
	}
	if snap.State == completed {
		out.Progress = "100%"
	}
	if snap.Sealed != nil {
		out.Encrypted, out.KMSKeyID = true, snap.Sealed.Key
	}
	return out
}
