// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"maps"
	"slices"
	"time"
)

type zoneItem struct {
	ZoneName   string `xml:"zoneName"`
	ZoneState  string `xml:"zoneState"`
	RegionName string `xml:"regionName"`
	ZoneType   string `xml:"zoneType"`
}

type describeZonesReply struct {
	meta
	Zones set[zoneItem] `xml:"availabilityZoneInfo"`
}

// zones are the availability zones of the region.
func (s *Server) zones() []string {
	return []string{s.opts.Region + "a", s.opts.Region + "b", s.opts.Region + "c"}
}

func (s *Server) describeAvailabilityZones(r *request) (reply, error) {
	out := &describeZonesReply{}
	asked := r.list("ZoneName")
	for _, name := range asked {
		if !slices.Contains(s.zones(), name) {
			return nil, invalid("Invalid availability zone: [%s]", name)
		}
	}
	for _, name := range s.zones() {
		ok, err := r.match(attributes{
			"zone-name": {name}, "state": {"available"}, "region-name": {s.opts.Region}, "zone-type": {"availability-zone"},
		})
		if err != nil {
			return nil, err
		}
		if ok && (len(asked) == 0 || slices.Contains(asked, name)) {
			out.Zones.Items = append(out.Zones.Items, zoneItem{name, "available", s.opts.Region, "availability-zone"})
		}
	}
	return out, nil
}

type stateItem struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

type mappingItem struct {
	Device string `xml:"deviceName"`
	EBS    struct {
		VolumeID            string `xml:"volumeId"`
		Status              string `xml:"status"`
		AttachTime          string `xml:"attachTime"`
		DeleteOnTermination bool   `xml:"deleteOnTermination"`
	} `xml:"ebs"`
}

type instanceItem struct {
	InstanceID   string    `xml:"instanceId"`
	ImageID      string    `xml:"imageId"`
	State        stateItem `xml:"instanceState"`
	InstanceType string    `xml:"instanceType"`
	LaunchTime   string    `xml:"launchTime"`
	Placement    struct {
		Zone    string `xml:"availabilityZone"`
		Tenancy string `xml:"tenancy"`
	} `xml:"placement"`
	Architecture   string           `xml:"architecture"`
	RootDeviceType string           `xml:"rootDeviceType"`
	RootDeviceName string           `xml:"rootDeviceName"`
	Mappings       set[mappingItem] `xml:"blockDeviceMapping"`
	Hypervisor     string           `xml:"hypervisor"`
	Tags           set[tagItem]     `xml:"tagSet"`
}

type reservationItem struct {
	ReservationID string            `xml:"reservationId"`
	OwnerID       string            `xml:"ownerId"`
	Instances     set[instanceItem] `xml:"instancesSet"`
}

type describeInstancesReply struct {
	meta
	Reservations set[reservationItem] `xml:"reservationSet"`
	NextToken    string               `xml:"nextToken,omitempty"`
}

func (s *Server) describeInstances(r *request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, next, err := choose(r.params, selection[*instance]{
		all: s.st.Instances, ids: r.list("InstanceId"), get: s.instance, attr: s.instanceAttributes,
	})
	if err != nil {
		return nil, err
	}
	out := &describeInstancesReply{NextToken: next}
	for _, i := range chosen {
		out.Reservations.Items = append(out.Reservations.Items, reservationItem{
			ReservationID: "r" + i.ID[1:], OwnerID: s.opts.Account, Instances: set[instanceItem]{[]instanceItem{s.instanceItem(i)}},
		})
	}
	return out, nil
}

func (s *Server) instanceItem(i *instance) instanceItem {
	out := instanceItem{
		InstanceID:     i.ID,
		ImageID:        "ami-0123456789abcdef0",
		State:          stateItem{16, "running"},
		InstanceType:   i.Type,
		LaunchTime:     stamp(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)),
		Architecture:   "x86_64",
		RootDeviceType: "ebs",
		RootDeviceName: "/dev/xvda",
		Hypervisor:     "xen", // EC2 says so of Nitro too
		Tags:           tagItems(i.Tags),
	}
	out.Placement.Zone, out.Placement.Tenancy = i.Zone, "default"
	for _, id := range slices.Sorted(maps.Keys(s.st.Volumes)) {
		a := s.st.Volumes[id].on(i.ID)
		if a == nil {
			continue
		}
		m := mappingItem{Device: a.Device}
		m.EBS.VolumeID, m.EBS.Status, m.EBS.AttachTime = id, a.State, stamp(a.Since)
		out.Mappings.Items = append(out.Mappings.Items, m)
	}
	return out
}

func (s *Server) instanceAttributes(i *instance) attributes {
	a := attributes{
		"availability-zone":   {i.Zone},
		"instance-id":         {i.ID},
		"instance-state-name": {"running"},
		"instance-state-code": {"16"},
		"instance-type":       {i.Type},
		"owner-id":            {s.opts.Account},

		"block-device-mapping.volume-id": nil,
		"block-device-mapping.status":    nil,
	}
	for id, v := range s.st.Volumes {
		if at := v.on(i.ID); at != nil {
			a["block-device-mapping.volume-id"] = append(a["block-device-mapping.volume-id"], id)
			a["block-device-mapping.status"] = append(a["block-device-mapping.status"], at.State)
		}
	}
	return a.withTags(i.Tags)
}
