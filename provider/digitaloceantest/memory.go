package digitaloceantest

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"adt/provider"
)

// memory is a Backing of numbers only. Like the vendor it keeps a record twice
// that is added twice.
type memory struct {
	mu      sync.Mutex
	made    int
	servers []provider.Server
	records []provider.Record
}

func (m *memory) List(context.Context) ([]provider.Server, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.servers), nil
}

func (m *memory) Create(_ context.Context, spec provider.Spec) (provider.Server, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	server := provider.Server{
		ID: strconv.Itoa(m.made), Name: spec.Name, Created: time.Now().UTC().Truncate(time.Second),
		PublicIP:  netip.AddrFrom4([4]byte{203, 0, byte(m.made >> 8), byte(m.made)}),
		PrivateIP: netip.AddrFrom4([4]byte{10, 106, byte(m.made >> 8), byte(m.made)}),
	}
	m.servers = append(m.servers, server)
	return server, nil
}

func (m *memory) Destroy(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.servers, func(s provider.Server) bool { return s.ID == id })
	if i < 0 {
		return provider.ErrNotFound
	}
	m.servers = slices.Delete(m.servers, i, i+1)
	return nil
}

func (m *memory) Records(_ context.Context, name string) ([]provider.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []provider.Record
	for _, r := range m.records {
		if r.Name == name {
			found = append(found, r)
		}
	}
	return found, nil
}

func (m *memory) AddRecord(_ context.Context, name string, address netip.Addr, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	m.records = append(m.records, provider.Record{ID: strconv.Itoa(m.made), Name: name, Address: address, TTL: ttl})
	return nil
}

func (m *memory) RemoveRecord(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.records, func(r provider.Record) bool { return r.ID == id })
	if i < 0 {
		return provider.ErrNotFound
	}
	m.records = slices.Delete(m.records, i, i+1)
	return nil
}
