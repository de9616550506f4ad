package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// portMode is what a client meets that connects.
type portMode int

const (
	refusing portMode = iota // bound, so that nobody else gets the address, but not listening
	listening
	vanished // SYNs go unanswered
)

// port is one bound address. The socket stays the same for life; whether it
// listens, and through which net.Listener, changes.
type port struct {
	address netip.AddrPort
	serve   func(net.Listener)

	fd   int
	mode portMode
	ln   net.Listener
	fill []net.Conn // connections that keep the backlog full
}

// bindAll binds all of the addresses or none.
func bindAll(addresses ...netip.AddrPort) (ports []*port, err error) {
	for _, address := range addresses {
		p, err := bindPort(address)
		if err != nil {
			for _, bound := range ports {
				unix.Close(bound.fd)
			}
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func bindPort(address netip.AddrPort) (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket for %s: %w", address, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w", address, err)
	}
	// Only now: it lets the port listen again in spite of connections that it
	// had before, but would let two machines have one address at bind.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w", address, err)
	}
	return &port{address: address, fd: fd}, nil
}

// set changes the mode. It may take a quarter of a second to vanish.
func (p *port) set(mode portMode) error {
	if mode == p.mode {
		return nil
	}
	if p.ln != nil {
		p.ln.Close() // a duplicate; the socket goes on
		p.ln = nil
	}
	for _, conn := range p.fill {
		conn.Close()
	}
	p.fill = nil
	p.mode = mode
	switch mode {
	case refusing:
		// On Linux this ends listening, resets who waits to be accepted and
		// keeps the address.
		if err := unix.Shutdown(p.fd, unix.SHUT_RD); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return fmt.Errorf("stop listening on %s: %w", p.address, err)
		}
		return nil
	case listening:
		return p.listen()
	default:
		return p.vanish()
	}
}

func (p *port) listen() error {
	if err := unix.Listen(p.fd, unix.SOMAXCONN); err != nil {
		return fmt.Errorf("listen on %s: %w", p.address, err)
	}
	duplicate, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", p.address, err)
	}
	file := os.NewFile(uintptr(duplicate), p.address.String())
	p.ln, err = net.FileListener(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("listen on %s: %w", p.address, err)
	}
	go p.serve(p.ln)
	return nil
}

// vanish leaves the socket listening with the smallest backlog, which nobody
// accepts from, and fills it: from then on the kernel drops every SYN.
func (p *port) vanish() error {
	if err := unix.Listen(p.fd, 0); err != nil {
		return fmt.Errorf("shrink the backlog of %s: %w", p.address, err)
	}
	for range 64 {
		conn, err := net.DialTimeout("tcp4", p.address.String(), 250*time.Millisecond)
		if err == nil {
			p.fill = append(p.fill, conn)
			continue
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		return fmt.Errorf("fill the backlog of %s: %w", p.address, err)
	}
	return fmt.Errorf("fill the backlog of %s: it takes no end", p.address)
}
