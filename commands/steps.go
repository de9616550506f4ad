package commands

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"adt/provider"
)

type conn = net.Conn

// stepServers tells Env.Step of every call that changes servers, before and
// after it, so that tests can end the process in between; and who counts them of
// every call and its outcome.
type stepServers struct {
	provider.Servers
	step   func(string)
	called func(call string, err error)
}

func (s stepServers) List(ctx context.Context) ([]provider.Server, error) {
	all, err := s.Servers.List(ctx)
	s.called("list_servers", err)
	return all, err
}

func (s stepServers) Create(ctx context.Context, spec provider.Spec) (provider.Server, error) {
	s.step("create " + spec.Name)
	server, err := s.Servers.Create(ctx, spec)
	s.called("create_server", err)
	s.step("created " + spec.Name)
	return server, err
}

func (s stepServers) Destroy(ctx context.Context, id string) error {
	s.step("destroy " + id)
	err := s.Servers.Destroy(ctx, id)
	s.called("destroy_server", err)
	s.step("destroyed " + id)
	return err
}

// stepDNS does the same for records.
type stepDNS struct {
	provider.DNS
	step   func(string)
	called func(call string, err error)
}

func (s stepDNS) Records(ctx context.Context, name string) ([]provider.Record, error) {
	all, err := s.DNS.Records(ctx, name)
	s.called("list_records", err)
	return all, err
}

func (s stepDNS) AddRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error {
	s.step("add record " + address.String())
	err := s.DNS.AddRecord(ctx, name, address, ttl)
	s.called("add_record", err)
	s.step("added record " + address.String())
	return err
}

func (s stepDNS) RemoveRecord(ctx context.Context, id string) error {
	s.step("remove record " + id)
	err := s.DNS.RemoveRecord(ctx, id)
	s.called("remove_record", err)
	s.step("removed record " + id)
	return err
}

// stepAllowList does the same for the allow list.
type stepAllowList struct {
	provider.AllowList
	step func(string)
}

func (s stepAllowList) Change(ctx context.Context, add, remove []netip.Prefix) error {
	what := fmt.Sprintf("%v not %v", add, remove)
	s.step("allow " + what)
	err := s.AllowList.Change(ctx, add, remove)
	s.step("allowed " + what)
	return err
}

// bare is the driver itself, for what it can do besides.
func bare(servers provider.Servers) provider.Servers {
	if steps, ok := servers.(stepServers); ok {
		return steps.Servers
	}
	return servers
}
