package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// Mail is the way to one address.
type Mail struct {
	Host           string
	Port           int
	Security       string // starttls, tls, or none: that only to a loopback address
	User, Password string // "" is not logged in
	From, To       string
	Roots          *x509.CertPool // nil is the system's
	Timeout        time.Duration  // of the whole delivery
}

// Name is that of the way in the record and in events.
func (m Mail) Name() string { return "mail to " + m.To }

// Server is where it is sent.
func (m Mail) Server() string { return net.JoinHostPort(m.Host, strconv.Itoa(m.Port)) }

// Deliver sends a letter. Without an error the server has taken it. The error is a
// *DeliveryError.
func (m Mail) Deliver(ctx context.Context, l Letter) error {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	err := errors.Join(msg.From(m.From), msg.To(m.To))
	if err != nil {
		return m.failed(err)
	}
	_, domain, _ := strings.Cut(strings.TrimSuffix(m.From, ">"), "@")
	// The same at each try, so that a reader's program can know one that came twice.
	msg.SetMessageIDWithValue("adt-" + l.ID + "@" + domain)
	msg.SetDateWithValue(l.Made)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // no answers of people on holiday (RFC 3834)
	msg.SetGenHeader("X-Adt-Level", string(l.Level))
	msg.Subject(l.Subject)
	msg.SetBodyString(mail.TypeTextPlain, l.Text)
	return m.talk(ctx, func(client *mail.Client, conn *smtp.Client) error {
		err := client.SendWithSMTPClient(conn, msg)
		if msg.IsDelivered() {
			return nil // what goes wrong after that is not the letter's
		}
		return err
	})
}

// Examine connects, logs in and says goodbye. The error is a *DeliveryError.
func (m Mail) Examine(ctx context.Context) error {
	return m.talk(ctx, func(*mail.Client, *smtp.Client) error { return nil })
}

func (m Mail) talk(ctx context.Context, do func(*mail.Client, *smtp.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	client, err := m.client(ctx)
	if err != nil {
		return m.failed(err)
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err == nil {
		err = do(client, conn)
		if err == nil {
			_ = client.CloseWithSMTPClient(conn) // the letter is theirs already
		}
	}
	if err != nil && (ctx.Err() != nil || timedOut(err)) {
		err = unanswered(ctx, m.Timeout)
	}
	return m.failed(err)
}

func timedOut(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// unanswered is the error of a delivery that was cut off by its deadline, or by the
// end of the run.
func unanswered(ctx context.Context, timeout time.Duration) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded)
}

func (m Mail) client(ctx context.Context) (*mail.Client, error) {
	settings := &tls.Config{ServerName: m.Host, RootCAs: m.Roots, MinVersion: tls.VersionTLS12}
	options := []mail.Option{
		mail.WithPort(m.Port), mail.WithTimeout(m.Timeout), mail.WithoutNoop(), mail.WithTLSConfig(settings), mail.WithTLSPolicy(mail.TLSMandatory),
		// The library looks at the deadline of each step, but not at ctx while it reads.
		mail.WithDialContextFunc(func(dial context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(dial, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			if m.Security != "tls" {
				return conn, nil
			}
			secure := tls.Client(conn, settings)
			return secure, secure.HandshakeContext(dial)
		}),
	}
	plain, login := mail.SMTPAuthPlain, mail.SMTPAuthLogin
	switch m.Security {
	case "tls":
		options = append(options, mail.WithSSL())
	case "none":
		if !loopback(m.Host) {
			return nil, errors.New("mail without TLS goes to a loopback address only")
		}
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		plain, login = mail.SMTPAuthPlainNoEnc, mail.SMTPAuthLoginNoEnc
	}
	if m.User != "" {
		options = append(options, mail.WithUsername(m.User), mail.WithPassword(m.Password), mail.WithOpportunisticSMTPAuth(plain, login, mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthCramMD5))
	}
	return mail.NewClient(m.Host, options...)
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// failed says what went wrong, without the password, and what to do about it.
func (m Mail) failed(err error) error {
	if err == nil {
		return nil
	}
	text, _, _ := strings.Cut(said(err), ", affected ") // recipient and id, which are known
	if m.Password != "" {
		text = strings.ReplaceAll(text, m.Password, "***")
	}
	return &DeliveryError{Way: m.Name(), Text: m.Server() + ": " + oneLine(text), Hint: m.hint(err), cause: err}
}

// said is an error's text, without the address where that is said anyway.
func said(err error) string {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return dial.Err.Error()
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func (m Mail) hint(err error) string {
	var refused *mail.SendError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var expired x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch text := err.Error(); {
	case errors.As(err, &refused) && refused.Reason == mail.ErrSMTPRcptTo:
		return "the server does not take mail for this address: is notify.mail.to right, and may this account write to it?"
	case errors.As(err, &refused) && refused.Reason == mail.ErrSMTPMailFrom:
		return "the server does not take mail from notify.mail.from: most providers want the address or its domain confirmed first"
	case strings.Contains(text, "AUTH"):
		return "are notify.mail.user and password those of the mail server?"
	case strings.Contains(text, "does not support STARTTLS"):
		return "set notify.mail.tls and port as the provider says (tls is mostly port 465), or is this another server?"
	case errors.As(err, &authority):
		return "set notify.ca to the file with the certificate of the server's authority"
	case errors.As(err, &name), errors.As(err, &expired):
		return "the server's certificate is not for this name or time: is notify.mail.host right, and the clock?"
	case errors.As(err, &record):
		return "the server does not begin with TLS on this port: set notify.mail.tls = \"starttls\", or another port"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, new(net.Error)):
		return "are notify.mail.host and port right, and does this machine reach them? Many clouds block ports 25, 465 and 587 until asked"
	}
	return "the message is kept and tried again"
}
