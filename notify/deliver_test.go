package notify_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"adt/events"
	"adt/notify"
	"adt/notify/notifytest"
)

// patience is for what normally ends at once.
const patience = 60 * time.Second

func authority(t *testing.T) *notifytest.Authority {
	t.Helper()
	a, err := notifytest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func server(t *testing.T, a *notifytest.Authority, security string) *notifytest.Server {
	t.Helper()
	s, err := notifytest.NewServer(a, security)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func hook(t *testing.T, a *notifytest.Authority) *notifytest.Hook {
	t.Helper()
	h, err := notifytest.NewHook(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	return h
}

func mailTo(a *notifytest.Authority, port int, security string) notify.Mail {
	return notify.Mail{Host: a.Address, Port: port, Security: security, User: notifytest.User, Password: notifytest.Password,
		From: "adt <adt@example.com>", To: "ops@example.com", Roots: a.Pool, Timeout: patience}
}

var sender = notify.Sender{Website: "www.example.com", Build: "shop", Autoscaler: 1, Host: "NO-1-as-lon1-shop"}

// letter is one about a strike, with what must not break a mail.
func letter() notify.Letter {
	strike := notify.Matter{Reason: events.Strike, Server: "ws-lon1-shop-1-agil-x7Qp", Autoscaler: 1, Severity: events.Warn,
		First: noon, Last: noon.Add(time.Minute), Count: 2, Text: "HTTPS: <500> & more\r\nBcc: everybody@example.com\n.\nquit ü"}
	return notify.Write(sender, notify.Message{ID: "42", Made: noon, Notices: []notify.Notice{{Kind: notify.New, Level: notify.Info, Matter: strike}}}, 0)
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func TestMailIsTaken(t *testing.T) {
	a := authority(t)
	for _, security := range []string{"starttls", "tls", "none"} {
		s := server(t, a, security)
		m := mailTo(a, s.Port(), security)
		if err := m.Examine(t.Context()); err != nil {
			t.Errorf("%s: %v", security, err)
		}
		if got := s.Mails(); len(got) != 0 {
			t.Errorf("%s: a look has sent %v", security, got)
		}
		if err := m.Deliver(t.Context(), letter()); err != nil {
			t.Errorf("%s: %v", security, err)
			continue
		}
		got := s.Mails()[0]
		if got.From != "adt@example.com" || got.To != "ops@example.com" || got.ID != "<adt-42@example.com>" ||
			got.Subject != "adt www.example.com, autoscaler 1: INFO STRIKE ws-lon1-shop-1-agil-x7Qp" {
			t.Errorf("%s: %+v", security, got)
		}
		for _, want := range []string{"\nNEW: INFO STRIKE ws-lon1-shop-1-agil-x7Qp\n", "last said: HTTPS: <500> & more Bcc: everybody@example.com . quit ü\n",
			"2026-11-25 12:00:00 UTC to 2026-11-25 12:01:00 UTC, 2 times\n", "a webserver failed its health check\n"} {
			if !strings.Contains(got.Text, want) {
				t.Errorf("%s: the text lacks %q:\n%s", security, want, got.Text)
			}
		}
		if got.Header.Get("Bcc") != "" || got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("X-Adt-Level") != "INFO" {
			t.Errorf("%s: %v", security, got.Header)
		}
	}
}

// TestMailIsRefused: each fault is one line that says what to do, never holds the
// password, and nothing is sent where the connection is not what was asked for.
func TestMailIsRefused(t *testing.T) {
	a := authority(t)
	other := *a
	other.Address = "127.201.1.1" // its certificate is for another one
	misnamed := server(t, &other, "starttls")
	starttls, implicit, open := server(t, a, "starttls"), server(t, a, "tls"), server(t, a, "none")
	down := server(t, a, "tls")
	down.Stop()
	silent, stop, err := notifytest.Silence()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, text, _ := net.SplitHostPort(silent)
	silentPort, _ := strconv.Atoi(text)
	starttls.Refuse("nobody@example.com", 550, "no such user")
	starttls.Refuse("busy@example.com", 451, "try again later")
	for name, c := range map[string]struct {
		change func(*notify.Mail)
		port   int
		says   string
		hint   string
	}{
		"password":        {func(m *notify.Mail) { m.Password = "battery staple" }, starttls.Port(), "***", "notify.mail.user and password"},
		"user":            {func(m *notify.Mail) { m.User = "somebody" }, starttls.Port(), "AUTH", "notify.mail.user and password"},
		"no login":        {func(m *notify.Mail) { m.User = "" }, starttls.Port(), "authenticate first", "notify.mail.from"},
		"recipient":       {func(m *notify.Mail) { m.To = "nobody@example.com" }, starttls.Port(), "550", "notify.mail.to"},
		"busy":            {func(m *notify.Mail) { m.To = "busy@example.com" }, starttls.Port(), "451", "notify.mail.to"},
		"authority":       {func(m *notify.Mail) { m.Roots = nil }, starttls.Port(), "unknown authority", "notify.ca"},
		"authority, tls":  {func(m *notify.Mail) { m.Roots, m.Security = nil, "tls" }, implicit.Port(), "unknown authority", "notify.ca"},
		"name":            {func(m *notify.Mail) { m.Host = other.Address }, misnamed.Port(), "certificate", "notify.mail.host"},
		"tls to starttls": {func(m *notify.Mail) { m.Security = "tls" }, starttls.Port(), "TLS", `notify.mail.tls = "starttls"`},
		"no starttls":     {func(*notify.Mail) {}, open.Port(), "does not support STARTTLS", "notify.mail.tls"},
		"down":            {func(*notify.Mail) {}, down.Port(), "refused", "notify.mail.host and port"},
		"silent":          {func(m *notify.Mail) { m.Host, m.Timeout = "127.0.0.1", 300*time.Millisecond }, silentPort, "no answer within 300ms", "notify.mail.host and port"},
		"silent, tls":     {func(m *notify.Mail) { m.Host, m.Timeout, m.Security = "127.0.0.1", 300*time.Millisecond, "tls" }, silentPort, "no answer within 300ms", "notify.mail.host and port"},
		"elsewhere":       {func(m *notify.Mail) { m.Host, m.Security = "192.0.2.1", "none" }, 25, "loopback", ""},
	} {
		m := mailTo(a, c.port, "starttls")
		c.change(&m)
		err := m.Deliver(t.Context(), letter())
		var failed *notify.DeliveryError
		if !errors.As(err, &failed) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(failed.Text, c.says) || !strings.Contains(failed.Hint, c.hint) || strings.Contains(failed.Text+failed.Hint, "\n") || strings.Contains(failed.Text, "affected") || strings.Count(failed.Text, m.Host) > 2 {
			t.Errorf("%s: %q: %q", name, failed.Text, failed.Hint)
		}
		if strings.Contains(err.Error(), m.Password) {
			t.Errorf("%s: the password is in %q", name, err)
		}
	}
	for _, s := range []*notifytest.Server{starttls, implicit, open} {
		if got := s.Mails(); len(got) != 0 {
			t.Errorf("it was sent all the same: %+v", got)
		}
	}
}

// TestMailIsCutOff: a run that is ended does not wait for a silent server.
func TestMailIsCutOff(t *testing.T) {
	a := authority(t)
	s := server(t, a, "starttls")
	ctx, cancel := context.WithCancel(t.Context())
	s.After(func(notifytest.Mail) error {
		cancel()
		<-t.Context().Done() // never answers
		return nil
	})
	m := mailTo(a, s.Port(), "starttls")
	m.Timeout = time.Hour
	ended := make(chan error, 1)
	go func() { ended <- m.Deliver(ctx, letter()) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("it waits on")
	}
}

// TestTakenIsTaken: a server that hangs up right after it took a letter has it,
// and must not get it again.
func TestTakenIsTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		lines := bufio.NewScanner(conn)
		_, _ = io.WriteString(conn, "220 hello\r\n")
		for letter := false; lines.Scan(); {
			switch line := lines.Text(); {
			case letter && line == ".":
				_, _ = io.WriteString(conn, "250 taken\r\n")
				return
			case letter:
			case line == "DATA":
				letter = true
				_, _ = io.WriteString(conn, "354 go on\r\n")
			default:
				_, _ = io.WriteString(conn, "250 fine\r\n")
			}
		}
	}()
	m := notify.Mail{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Security: "none", From: "adt@example.com", To: "ops@example.com", Timeout: patience}
	if err := m.Deliver(t.Context(), letter()); err != nil {
		t.Error(err)
	}
}

func TestWebhookIsTaken(t *testing.T) {
	a := authority(t)
	h := hook(t, a)
	w := notify.Webhook{URL: h.URL, Roots: a.Pool, Timeout: patience}
	if err := w.Deliver(t.Context(), letter()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Text, ID, Website, Build, Level string
		Autoscaler                      int
		Matters                         []struct {
			Kind, Level, Reason, Server, Text string
			Count                             int
			First, Last                       time.Time
		}
	}
	if err := json.Unmarshal(h.Bodies()[0], &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != "42" || got.Website != "www.example.com" || got.Build != "shop" || got.Autoscaler != 1 || got.Level != "INFO" ||
		!strings.HasPrefix(got.Text, "adt www.example.com, autoscaler 1: INFO STRIKE ws-") || !strings.Contains(got.Text, "&lt;500&gt; &amp; more") {
		t.Errorf("%+v", got)
	}
	m := got.Matters[0]
	if m.Kind != "new" || m.Reason != "STRIKE" || m.Server != "ws-lon1-shop-1-agil-x7Qp" || m.Count != 2 || !m.First.Equal(noon) || !strings.Contains(m.Text, "<500>") {
		t.Errorf("%+v", m)
	}
	if header := h.Headers()[0]; header.Get("Content-Type") != "application/json" || header.Get("Idempotency-Key") != "42" {
		t.Errorf("%v", header)
	}
}

// TestWebhookIsRefused: the URL, which is a secret, is in no error, and a redirect
// carries it nowhere.
func TestWebhookIsRefused(t *testing.T) {
	a := authority(t)
	h, elsewhere := hook(t, a), hook(t, a)
	silent, stop, err := notifytest.Silence()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	status := func(code int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		answer     func(http.ResponseWriter, *http.Request)
		change     func(*notify.Webhook)
		says, hint string
	}{
		"500":       {answer: status(500, "<html>trouble</html>"), says: "answered 500 Internal Server Error", hint: "kept and tried again"},
		"gone":      {answer: status(410, ""), says: "answered 410 Gone", hint: "make a new webhook"},
		"not found": {answer: status(404, "no_service"), says: "answered 404 Not Found: no_service", hint: "make a new webhook"},
		"forbidden": {answer: status(403, "invalid_token"), says: "invalid_token", hint: "make a new webhook"},
		"echo":      {answer: status(404, "Cannot POST services T0SECRET B0SECRET"), says: "answered 404", hint: "make a new webhook"},
		"limited":   {answer: status(429, "rate_limited"), says: "rate_limited", hint: "notify.per_hour"},
		"format":    {answer: status(400, "invalid_payload"), says: "invalid_payload", hint: "POST of JSON"},
		"redirect": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, says: "answered 307", hint: "redirects are not followed"},
		"silent": {change: func(w *notify.Webhook) {
			w.URL, w.Timeout = "https://"+silent+"/"+notifytest.Secret, 300*time.Millisecond
		}, says: "no answer within 300ms", hint: "does this machine reach it"},
		"authority": {change: func(w *notify.Webhook) { w.Roots = nil }, says: "unknown authority", hint: "notify.ca"},
		"no URL":    {change: func(w *notify.Webhook) { w.URL = "https://hooks/" + notifytest.Secret + "\x7f" }, says: "no address"},
		"hangs": {change: func(w *notify.Webhook) { w.Timeout = 300 * time.Millisecond }, answer: func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, says: "no answer within 300ms", hint: "does this machine reach it"},
	} {
		h.Answer(c.answer)
		w := notify.Webhook{URL: h.URL, Roots: a.Pool, Timeout: patience}
		if c.change != nil {
			c.change(&w)
		}
		err := w.Deliver(t.Context(), letter())
		var failed *notify.DeliveryError
		if !errors.As(err, &failed) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(failed.Text, c.says) || !strings.Contains(failed.Hint, c.hint) || strings.Contains(failed.Text, "html") {
			t.Errorf("%s: %q: %q", name, failed.Text, failed.Hint)
		}
		for secret := range strings.SplitSeq(notifytest.Secret, "/") {
			if strings.Contains(failed.Text+failed.Hint, secret) {
				t.Errorf("%s: the URL's secret is in %q", name, failed.Text)
			}
		}
	}
	if len(h.Bodies())+len(elsewhere.Bodies()) != 0 {
		t.Error("something was taken")
	}
}
