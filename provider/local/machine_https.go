package local

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// httpServer serves the page that is checked, once the application is
// configured. A connection serves one request, so that every probe is one of
// its own.
func (m *machine) httpServer() (*http.Server, error) {
	certificate, err := m.certificate()
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(m.answer),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}},
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 is enough
		ReadHeaderTimeout: time.Minute,
		// Probes that hang up in the middle are no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	server.SetKeepAlivesEnabled(false)
	return server, nil
}

func (m *machine) certificate() (tls.Certificate, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: m.Name},
		NotBefore:    m.Created.Add(-time.Hour),
		NotAfter:     m.Created.AddDate(10, 0, 0),
		DNSNames:     []string{m.Name},
		IPAddresses:  []net.IP{m.state.PrivateIP.AsSlice(), m.state.PublicIP.AsSlice()},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

func (m *machine) answer(w http.ResponseWriter, r *http.Request) {
	order := m.order.Load()
	w.Header().Set("X-Served-By", m.Name)
	if order.HTTPSlow > 0 {
		ctx, cancel := context.WithCancel(r.Context())
		defer context.AfterFunc(order.ctx, cancel)()
		sleep(ctx, order.HTTPSlow) // cut short when the fault or the request ends
		cancel()
	}
	if order.HTTP == "hang" {
		select {
		case <-r.Context().Done():
		case <-order.ctx.Done():
		}
		panic(http.ErrAbortHandler)
	}
	status := m.status(r)
	if broken, err := strconv.Atoi(order.HTTP); err == nil {
		status = broken
	}
	switch {
	case status >= 300 && status < 400:
		w.Header().Set("Location", "https://"+r.Host+"/elsewhere")
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="webserver"`)
	}
	w.WriteHeader(status)
	if status == http.StatusOK {
		fmt.Fprintf(w, "%s\n", m.Name)
	}
}

// status is what a server in order answers.
func (m *machine) status(r *http.Request) int {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return http.StatusMethodNotAllowed
	}
	if !m.files.exists(configuredMarker) {
		return http.StatusServiceUnavailable
	}
	asked := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	configFile := strings.TrimPrefix(m.ApplicationConfig, "/")
	if asked == "" || asked == strings.TrimPrefix(m.HeadFile, "/") ||
		configFile != "" && asked == configFile && m.files.exists(configFile) {
		return http.StatusOK
	}
	return http.StatusNotFound
}
