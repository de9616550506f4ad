package machinetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Statuses of HTTPS besides those of HTTP.
const (
	Nothing          = 0  // nginx does not run
	WrongCertificate = -1 // 200, with an expired certificate of another name
)

// HTTPS makes nginx answer with the status from now on; when it returns, it
// does.
func (m *Machine) HTTPS(status int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nginx.end() // told to read its configuration again, it would answer in the old way for a while
	m.nginx = nil
	if status == Nothing {
		return nil
	}
	name, until := "www.example.com", time.Now().Add(time.Hour)
	if status == WrongCertificate {
		name, until = "elsewhere.example.org", time.Now().Add(-time.Hour)
	}
	if err := m.configure(max(status, http.StatusOK), name, until); err != nil {
		return err
	}
	var err error
	if m.nginx, err = m.launch("nginx", "-c", m.in("nginx.conf"), "-e", m.in("nginx.err")); err != nil {
		return err
	}
	return m.await("nginx", m.nginx, func() error { return m.answers(max(status, http.StatusOK), name) })
}

// Proxy makes nginx a reverse proxy from now on, to the upstream of that name in
// adt/*.conf below the home directory; when it returns, it answers 502, since
// the upstream is one that has nobody yet. From the home directory,
// `nginx -t -q -c "$PWD/../nginx.conf"` tests it and
// `kill -HUP $(cat ../nginx-master.pid)` makes it read its configuration again.
func (m *Machine) Proxy(upstream string) error {
	if err := m.write("adt/"+upstream+".conf", "upstream "+upstream+" { server 127.0.0.1:9 down; }\n", 0o644); err != nil {
		return err
	}
	m.mu.Lock()
	m.upstream = upstream
	m.mu.Unlock()
	return m.HTTPS(http.StatusBadGateway)
}

func (m *Machine) in(name string) string { return filepath.Join(m.dir, name) }

func (m *Machine) configure(status int, name string, until time.Time) error {
	certificate, key, err := selfSigned(name, until)
	if err != nil {
		return err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	include, answer := "", fmt.Sprintf("return %d %s", status, map[bool]string{true: "https://www.example.com/elsewhere"}[status/100 == 3])
	if m.upstream != "" {
		include, answer = "include "+filepath.Join(m.Home, "adt", "*.conf")+";", "proxy_pass https://"+m.upstream
	}
	config := fmt.Sprintf(`%[1]sdaemon off;
pid %[2]s/nginx-master.pid;
worker_processes 1;
events { worker_connections 128; }
http {
	access_log off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	%[5]s
	server {
		listen %[3]s ssl;
		ssl_certificate %[2]s/certificate.pem;
		ssl_certificate_key %[2]s/key.pem;
		location / { %[4]s; }
	}
}
`, user, m.dir, netip.AddrPortFrom(m.Address, HTTPSPort), answer, include)
	for name, text := range map[string]string{"certificate.pem": certificate, "key.pem": key, "nginx.conf": config} {
		if err := os.WriteFile(m.in(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// answers looks whether a new connection meets the configuration.
func (m *Machine) answers(status int, name string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: name},
		DialContext:       (&net.Dialer{Timeout: patience}).DialContext,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodHead, "https://"+netip.AddrPortFrom(m.Address, HTTPSPort).String()+"/", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if shown := response.TLS.PeerCertificates[0].Subject.CommonName; response.StatusCode != status || shown != name {
		return fmt.Errorf("it answers %d as %s", response.StatusCode, shown)
	}
	return nil
}

func selfSigned(name string, until time.Time) (certificate, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), nil
}
