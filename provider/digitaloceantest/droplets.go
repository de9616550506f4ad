package digitaloceantest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"adt/provider"
)

// droplet is what the account knows of a machine besides what the backing
// says. One that the backing made by itself has only an id.
type droplet struct {
	id       int
	looks    int // how often it was shown
	tags     []string
	size     string
	image    image
	vpc      string
	userData string
}

// machine is a droplet with its machine.
type machine struct {
	*droplet
	provider.Server
}

// machines are all that there are, the newest first, as the vendor lists them.
func (s *Server) machines(ctx context.Context) ([]machine, error) {
	s.making.Lock()
	defer s.making.Unlock()
	servers, err := s.backing.List(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]machine, len(servers))
	for i, server := range servers {
		all[i] = machine{s.dropletOf(server.ID), server}
	}
	slices.SortFunc(all, func(a, b machine) int { return cmp.Compare(b.id, a.id) })
	return all, nil
}

func (s *Server) dropletOf(backingID string) *droplet {
	d := s.droplets[backingID]
	if d == nil {
		d = &droplet{id: s.ids.of("droplet", backingID), tags: []string{}, size: sizes()[0].Slug, image: s.images[0]}
		s.droplets[backingID] = d
	}
	return d
}

func (s *Server) machine(ctx context.Context, id string) (machine, error) {
	all, err := s.machines(ctx)
	if err != nil {
		return machine{}, err
	}
	for _, m := range all {
		if strconv.Itoa(m.id) == id {
			return m, nil
		}
	}
	return machine{}, provider.ErrNotFound
}

func (s *Server) listDroplets(r *http.Request) (int, any) {
	all, err := s.machines(r.Context())
	if err != nil {
		return failed(err)
	}
	query := r.URL.Query()
	all = slices.DeleteFunc(all, func(m machine) bool {
		tag, name := query.Get("tag_name"), query.Get("name")
		return tag != "" && !slices.Contains(m.tags, tag) || name != "" && name != m.Name
	})
	status, body := paged(r, "droplets", all)
	if page, ok := body.(object)["droplets"].([]machine); ok { // only what is on it has been looked at
		body.(object)["droplets"] = s.show(page...)
	}
	return status, body
}

func (s *Server) getDroplet(r *http.Request) (int, any) {
	m, err := s.machine(r.Context(), r.PathValue("id"))
	if err != nil {
		return failed(err)
	}
	return http.StatusOK, object{"droplet": s.show(m)[0]}
}

func (s *Server) deleteDroplet(r *http.Request) (int, any) {
	ctx, cancel := lasting(r)
	defer cancel()
	number, _ := strconv.Atoi(r.PathValue("id"))
	s.mu.Lock()
	backingID, known := s.ids.backing("droplet", number)
	s.mu.Unlock()
	if !known {
		return notFound()
	}
	if err := s.backing.Destroy(ctx, backingID); err != nil {
		return failed(err)
	}
	return http.StatusNoContent, nil
}

// order is the body of a create.
type order struct {
	Name, Region, Size string
	Image              any      // id or slug
	SSHKeys            []any    `json:"ssh_keys"`
	VPC                string   `json:"vpc_uuid"`
	UserData           string   `json:"user_data"`
	Tags               []string `json:"tags"`
}

// largestUserData is the vendor's limit in bytes.
const largestUserData = 64 << 10

func (s *Server) createDroplet(r *http.Request) (int, any) {
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		return http.StatusBadRequest, refusal("bad_request", err.Error())
	}
	ctx, cancel := lasting(r)
	defer cancel()
	var there []machine // other backings have limits of their own
	if s.inMemory {
		there, _ = s.machines(ctx)
	}
	d, refused := s.check(o, len(there))
	if refused != "" {
		return unprocessable("%s", refused)
	}
	s.making.RLock()
	defer s.making.RUnlock()
	server, err := s.backing.Create(ctx, provider.Spec{Name: o.Name, UserData: []byte(o.UserData)})
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	d.id = s.ids.of("droplet", server.ID)
	s.droplets[server.ID] = d
	s.mu.Unlock()
	server.PublicIP, server.PrivateIP = netip.Addr{}, netip.Addr{} // never in the answer to a create
	return http.StatusAccepted, object{"droplet": s.show(machine{d, server})[0], "links": object{"actions": []any{}}}
}

// check returns what the order would make beside the droplets there are, or
// why the vendor refuses it.
func (s *Server) check(o order, droplets int) (d *droplet, refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprint(o.Image)
	if id, ok := o.Image.(float64); ok {
		name = strconv.Itoa(int(id))
	}
	picture := s.imageOf(name)
	switch {
	case o.Name == "":
		return nil, "Name can't be blank"
	case o.Region != s.region:
		return nil, "You specified an invalid region for Droplet creation."
	case !slices.ContainsFunc(sizes(), func(z size) bool { return z.Slug == o.Size }):
		return nil, "You specified an invalid size for Droplet creation."
	case picture == nil:
		return nil, "You specified an invalid image for Droplet creation."
	case len(o.UserData) > largestUserData:
		return nil, "User data is too long (maximum is 64 KiB)"
	case o.VPC != "" && !slices.ContainsFunc(s.vpcs, func(v vpc) bool { return v.ID == o.VPC && v.Region == o.Region }):
		return nil, "VPC is invalid for this region"
	case droplets >= s.limit:
		return nil, "creating this/these droplet(s) will exceed your droplet limit"
	}
	for _, wanted := range o.SSHKeys {
		if id, _ := wanted.(float64); !slices.ContainsFunc(s.keys, func(k key) bool { return k.ID == int(id) }) {
			return nil, "You specified invalid ssh key ids for Droplet creation."
		}
	}
	return &droplet{
		tags: append([]string{}, o.Tags...), size: o.Size, image: *picture, vpc: o.VPC, userData: o.UserData,
	}, ""
}

// show renders machines and counts that as a look at each.
func (s *Server) show(shown ...machine) []object {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := make([]object, len(shown))
	for i, m := range shown {
		if s.inMemory && m.looks < 2 { // the first is the answer to its create
			m.PublicIP, m.PrivateIP = netip.Addr{}, netip.Addr{}
		}
		m.looks++
		objects[i] = s.render(m)
	}
	return objects
}

func (s *Server) render(m machine) object {
	networks, status := []object{}, "new"
	network := func(address netip.Addr, gateway, kind string) {
		if address.IsValid() {
			networks = append(networks, object{"ip_address": address, "netmask": "255.255.240.0", "gateway": gateway, "type": kind})
		}
	}
	network(m.PrivateIP, "10.106.0.1", "private")
	network(m.PublicIP, "203.0.0.1", "public")
	if m.PublicIP.IsValid() {
		status = "active"
	}
	z := sizes()[slices.IndexFunc(sizes(), func(z size) bool { return z.Slug == m.size })]
	z.Regions = []string{s.region}
	o := object{
		"id": m.id, "name": m.Name, "memory": z.Memory, "vcpus": z.CPUs, "disk": z.Disk, "locked": status == "new",
		"status": status, "created_at": m.Created.UTC(), // RFC 3339
		"features": []string{"private_networking"}, "backup_ids": []int{}, "next_backup_window": nil, "snapshot_ids": []int{},
		"volume_ids": []string{}, "image": m.image, "size": z, "size_slug": z.Slug,
		"networks": object{"v4": networks, "v6": []object{}}, "region": s.regions()[0], "tags": slices.Clone(m.tags),
	}
	if m.vpc != "" {
		o["vpc_uuid"] = m.vpc
	}
	return o
}
