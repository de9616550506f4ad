package digitaloceantest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

type key struct {
	ID          int    `json:"id"`
	Fingerprint string `json:"fingerprint"`
	PublicKey   string `json:"public_key"`
	Name        string `json:"name"`
}

type vpc struct {
	ID      string `json:"id"`
	URN     string `json:"urn"`
	Name    string `json:"name"`
	Region  string `json:"region"`
	IPRange string `json:"ip_range"`
	Default bool   `json:"default"`
	Created string `json:"created_at"`
}

type image struct {
	ID           int      `json:"id"`
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	Distribution string   `json:"distribution"`
	Slug         *string  `json:"slug"` // null of a snapshot
	Public       bool     `json:"public"`
	Regions      []string `json:"regions"`
	Created      string   `json:"created_at"`
	Status       string   `json:"status"`
}

type size struct {
	Slug        string   `json:"slug"`
	Memory      int      `json:"memory"` // MiB
	CPUs        int      `json:"vcpus"`
	Disk        int      `json:"disk"` // GiB
	Transfer    float64  `json:"transfer"`
	Monthly     float64  `json:"price_monthly"` // USD
	Hourly      float64  `json:"price_hourly"`
	Regions     []string `json:"regions"`
	Available   bool     `json:"available"`
	Description string   `json:"description"`
}

type region struct {
	Name      string   `json:"name"`
	Slug      string   `json:"slug"`
	Features  []string `json:"features"`
	Available bool     `json:"available"`
	Sizes     []string `json:"sizes"`
}

// created is when all that is no droplet was made.
const created = "2026-01-02T03:04:05Z"

// sizes are for sale in the account's region, the last one only elsewhere.
func sizes() []size {
	return []size{
		{Slug: "s-1vcpu-1gb", Memory: 1024, CPUs: 1, Disk: 25, Transfer: 1, Monthly: 6, Hourly: 0.00893, Available: true, Description: "Basic"},
		{Slug: "s-1vcpu-2gb", Memory: 2048, CPUs: 1, Disk: 50, Transfer: 2, Monthly: 12, Hourly: 0.01786, Available: true, Description: "Basic"},
		{Slug: "s-2vcpu-4gb", Memory: 4096, CPUs: 2, Disk: 80, Transfer: 4, Monthly: 24, Hourly: 0.03571, Available: true, Description: "Basic"},
		{Slug: "g-2vcpu-8gb", Memory: 8192, CPUs: 2, Disk: 25, Transfer: 4, Monthly: 63, Hourly: 0.09375, Available: true, Description: "General Purpose"},
	}
}

// elsewhere is a region without new servers.
const elsewhere = "sfo1"

func (s *Server) regions() []region {
	var slugs []string
	for _, z := range sizes() {
		slugs = append(slugs, z.Slug)
	}
	return []region{
		{Name: "Region " + s.region, Slug: s.region, Features: []string{"metadata"}, Available: true, Sizes: slugs[:len(slugs)-1]},
		{Name: "San Francisco 1", Slug: elsewhere, Features: []string{}, Sizes: []string{}},
	}
}

func (s *Server) publicImages() []image {
	public := func(distribution, name, slug string) image {
		return image{
			ID: s.ids.next(), Name: name, Type: "base", Distribution: distribution, Slug: &slug, Public: true,
			Regions: []string{s.region}, Created: created, Status: "available",
		}
	}
	return []image{public("Debian", "13 x64", "debian-13-x64"), public("Ubuntu", "24.04 (LTS) x64", "ubuntu-24-04-x64")}
}

func (s *Server) getAccount(*http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return http.StatusOK, object{"account": object{
		"droplet_limit": s.limit, "floating_ip_limit": 3, "email": "ops@" + s.zone, "uuid": uuid(1),
		"email_verified": true, "status": "active", "status_message": "",
	}}
}

func (s *Server) listKeys(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return paged(r, "ssh_keys", s.keys)
}

func (s *Server) listVPCs(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return paged(r, "vpcs", s.vpcs)
}

func (s *Server) listSizes(r *http.Request) (int, any) {
	all := sizes()
	for i := range all {
		all[i].Regions = []string{s.region}
	}
	all[len(all)-1].Regions = []string{elsewhere}
	return paged(r, "sizes", all)
}

func (s *Server) listRegions(r *http.Request) (int, any) { return paged(r, "regions", s.regions()) }

func (s *Server) listImages(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.Clone(s.images)
	if r.URL.Query().Get("private") == "true" {
		found = slices.DeleteFunc(found, func(i image) bool { return i.Public })
	}
	return paged(r, "images", found)
}

func (s *Server) getImage(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.imageOf(r.PathValue("id"))
	if found == nil {
		return notFound()
	}
	return http.StatusOK, object{"image": *found}
}

// imageOf is the image with the id or slug, or nil.
func (s *Server) imageOf(id string) *image {
	for i := range s.images {
		if known := &s.images[i]; strconv.Itoa(known.ID) == id || known.Slug != nil && *known.Slug == id {
			return known
		}
	}
	return nil
}

// AddKey adds an SSH key and returns its id.
func (s *Server) AddKey(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.ids.next()
	sum := fmt.Sprintf("3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:%02x:%02x:%02x:%02x", byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	s.keys = append(s.keys, key{ID: id, Fingerprint: sum, PublicKey: "ssh-ed25519 AAAA" + strconv.Itoa(id), Name: name})
	return id
}

// AddVPC adds a VPC and returns its id.
func (s *Server) AddVPC(name, region string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uuid(s.ids.next())
	s.vpcs = append(s.vpcs, vpc{ID: id, URN: "do:vpc:" + id, Name: name, Region: region, IPRange: "10.106.0.0/20", Created: created})
	return id
}

// AddSnapshot adds an image of one's own and returns its id.
func (s *Server) AddSnapshot(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.ids.next()
	s.images = append(s.images, image{
		ID: id, Name: name, Type: "snapshot", Distribution: "Debian", Regions: []string{s.region}, Created: created, Status: "available",
	})
	return id
}

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
