package local

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gliderlabs/ssh"
	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"
)

// sshServer lets in the user of the user data by key, shows the host key of
// the user data, runs commands and copies files.
func (m *machine) sshServer() (*ssh.Server, error) {
	host, err := m.hostKey()
	if err != nil {
		return nil, err
	}
	var allowed []ssh.PublicKey
	for _, line := range m.user.AuthorizedKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			log.Printf("an authorised key is none: %v", err)
			continue
		}
		allowed = append(allowed, key)
	}
	return &ssh.Server{
		HostSigners: []ssh.Signer{host},
		PublicKeyHandler: func(ctx ssh.Context, key ssh.PublicKey) bool {
			return m.user.User != "" && ctx.User() == m.user.User &&
				slices.ContainsFunc(allowed, func(k ssh.PublicKey) bool { return ssh.KeysEqual(k, key) })
		},
		// Without a terminal of its own a session still works, line by line.
		PtyCallback:       func(ssh.Context, ssh.Pty) bool { return false },
		Handler:           m.session,
		ChannelHandlers:   map[string]ssh.ChannelHandler{"session": ssh.DefaultSessionHandler},
		SubsystemHandlers: map[string]ssh.SubsystemHandler{"sftp": m.copyFiles},
	}, nil
}

func (m *machine) hostKey() (ssh.Signer, error) {
	if m.user.HostKeyPrivate != "" {
		signer, err := gossh.ParsePrivateKey([]byte(m.user.HostKeyPrivate))
		if err == nil {
			return signer, nil
		}
		log.Printf("the host key of the user data is none, taking a random one: %v", err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return gossh.NewSignerFromKey(private)
}

func (m *machine) serveSSH(server *ssh.Server, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Print(err)
			time.Sleep(50 * time.Millisecond) // out of files, most likely
			continue
		}
		go m.greet(server, conn)
	}
}

// greet acts the fault out before the first word is said.
func (m *machine) greet(server *ssh.Server, conn net.Conn) {
	order := m.order.Load()
	switch {
	case order.SSH == "dead":
		conn.Close()
		return
	case order.SSH == "hang":
		defer context.AfterFunc(order.ctx, func() { conn.Close() })()
		io.Copy(io.Discard, conn)
		conn.Close()
		return
	case order.SSHSlow > 0:
		sleep(order.ctx, order.SSHSlow) // cut short when the fault ends
	}
	server.HandleConn(conn)
}

// session runs one command to its end and takes its process group along.
func (m *machine) session(s ssh.Session) {
	m.sessions.Add(1)
	defer m.sessions.Done()
	status, err := m.runCommand(s)
	if err != nil {
		fmt.Fprintf(s.Stderr(), "%v\n", err)
		status = 127
	}
	if err := m.files.apply(m.order.Load().Fault); err != nil {
		log.Print(err)
	}
	s.Exit(status)
}

func (m *machine) runCommand(s ssh.Session) (status int, err error) {
	cmd := m.command(s.Context(), s.RawCommand())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	// Pipes of our own rather than cmd.StdoutPipe: Wait must return when the
	// shell ends, so that its background processes can be ended before the
	// rest of the output is read.
	var copied sync.WaitGroup
	var ours []*os.File
	for _, stream := range []struct {
		to   io.Writer
		file *io.Writer
	}{{s, &cmd.Stdout}, {s.Stderr(), &cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		defer r.Close()
		defer context.AfterFunc(s.Context(), func() { r.Close() })()
		*stream.file, ours = w, append(ours, w)
		copied.Go(func() { io.Copy(stream.to, r) })
	}
	err = cmd.Start()
	for _, w := range ours {
		w.Close()
	}
	if err != nil {
		return 0, err
	}
	go func() {
		io.Copy(stdin, s)
		stdin.Close()
	}()
	err = cmd.Wait()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	copied.Wait()
	return exitStatus(err)
}

// exitStatus says it as a shell does: 128 and the signal for a killed process.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if wait, ok := exit.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		return 128 + int(wait.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// copyFiles is the sftp subsystem. Paths begin at the home directory.
func (m *machine) copyFiles(s ssh.Session) {
	server, err := sftp.NewServer(s, sftp.WithServerWorkingDirectory(filepath.Join(m.dir, homeDir)))
	if err == nil {
		err = server.Serve()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		log.Printf("sftp: %v", err)
	}
}
