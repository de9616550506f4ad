package machinetest

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Behaviour is how a machine's SSH port behaves.
type Behaviour string

const (
	Right      Behaviour = "as it should"
	OtherKey   Behaviour = "shows another host key"
	NoLogin    Behaviour = "knows the login key no more"
	BannerOnly Behaviour = "hangs after the banner"
	Closes     Behaviour = "closes at once"
	Slow       Behaviour = "is slow"
)

// delay is what each packet takes at a machine that is Slow.
const delay = 50 * time.Millisecond

// SSH makes the machine's SSH port behave so from now on. Connections that are
// open stay open.
func (m *Machine) SSH(b Behaviour) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopSSH()
	switch b {
	case BannerOnly:
		return m.listen(func(conn net.Conn) {
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n")
			_, _ = io.Copy(io.Discard, conn)
		})
	case Closes:
		return m.listen(func(net.Conn) {})
	case Slow:
		behind := netip.AddrPortFrom(m.Address, SSHPort+1)
		if err := m.startSSH(behind, b); err != nil {
			return err
		}
		return m.listen(func(conn net.Conn) { relay(conn, behind) })
	}
	return m.startSSH(netip.AddrPortFrom(m.Address, SSHPort), b)
}

func (m *Machine) stopSSH() {
	if m.other != nil {
		m.other.Close()
		m.other = nil
	}
	m.sshd.end()
	m.sshd = nil
}

func (m *Machine) startSSH(at netip.AddrPort, b Behaviour) error {
	key, logins := m.boot.HostKeyPrivate, strings.Join(m.boot.AuthorizedKeys, "\n")+"\n"
	if b == OtherKey {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			return err
		}
		key = string(pem.EncodeToMemory(block))
	}
	if b == NoLogin {
		logins = ""
	}
	in := func(name string) string { return filepath.Join(m.dir, name) }
	config := fmt.Sprintf(`ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
ForceCommand %s
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
LogLevel VERBOSE
`, at, in("host_key"), in("authorized_keys"), in("login"))
	for name, text := range map[string]string{"host_key": key, "authorized_keys": logins, "sshd_config": config} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	var err error
	if m.sshd, err = m.launch("sshd", "-D", "-e", "-f", in("sshd_config")); err != nil {
		return err
	}
	return m.await("sshd", m.sshd, func() error {
		conn, err := net.Dial("tcp", at.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = bufio.NewReader(conn).ReadString('\n') // its banner
		return err
	})
}

// listen is in sshd's place.
func (m *Machine) listen(serve func(net.Conn)) error {
	ln, err := net.Listen("tcp", netip.AddrPortFrom(m.Address, SSHPort).String())
	if err != nil {
		return err
	}
	m.other = ln
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return nil
}

// relay is a slow line.
func relay(conn net.Conn, to netip.AddrPort) {
	behind, err := net.Dial("tcp", to.String())
	if err != nil {
		return
	}
	defer behind.Close()
	go func() {
		defer behind.Close()
		crawl(behind, conn)
	}()
	crawl(conn, behind)
}

func crawl(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			<-time.After(delay)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
