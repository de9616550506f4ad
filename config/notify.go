package config

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"time"
)

// Notify is who is told of what happens. Without a recipient nobody is.
type Notify struct {
	Level     string   `toml:"level" doc:"What is told: INFO (warnings, errors and terminations), ERROR (what needs somebody: errors, and warnings that last) or MANDATORY (only what stands still until somebody comes), as the original's EMAILNOTIFICATIONLEVEL." oneof:"INFO ERROR MANDATORY"`
	PerHour   int      `toml:"per_hour" doc:"The most messages that one recipient gets in an hour; what is over is gathered into the next one. What is MANDATORY does not wait." min:"1" max:"1000"`
	Remind    Duration `toml:"remind" doc:"How long until a matter that goes on is told again." min:"1h" max:"30d"`
	Lasting   Duration `toml:"lasting" doc:"How long a warning has to last to count as ERROR: what adt works around for minutes needs nobody." min:"0s" max:"7d"`
	Quiet     Duration `toml:"quiet" doc:"A matter that was not recorded for so long is over, where no event says so earlier." min:"2m" max:"7d"`
	Keep      Duration `toml:"keep" doc:"How long a message that nobody takes is tried again, before it is given up." min:"1m" max:"30d"`
	KeepCount int      `toml:"keep_count" doc:"How much news may wait for one recipient meanwhile; beyond that the oldest are given up." min:"10" max:"10000"`
	Timeout   Duration `toml:"timeout" doc:"How long one delivery may take." min:"100ms" max:"5m"`
	CA        string   `toml:"ca" doc:"A file with the certificates (PEM) of an own authority, for mail server and webhook; empty takes the system's." form:"path" optional:"true"`

	Webhook Secret `toml:"webhook" doc:"A URL that gets each message as JSON, with a field text as Slack, Mattermost and others want it; a secret, since whoever knows it may post there: file:PATH, env:NAME or the URL itself." example:"\"file:~/.adt-webhook\""`

	Mail NotifyMail `toml:"mail" doc:"Who gets mail, and through which server."`
}

// NotifyMail is who gets mail.
type NotifyMail struct {
	To       []string `toml:"to" doc:"The addresses; empty sends no mail." form:"mail" optional:"true"`
	From     string   `toml:"from" doc:"The sender's address, or \"name <address>\"; most providers want it confirmed." form:"mail" optional:"true"`
	Preset   string   `toml:"preset" doc:"The provider, which says the host: sendpulse, mailjet or ses (Amazon); empty for any other." oneof:"sendpulse mailjet ses" optional:"true"`
	Region   string   `toml:"region" doc:"For preset ses: the region of the account." form:"label"`
	Host     string   `toml:"host" doc:"The mail server; empty is that of the preset." form:"server" optional:"true"`
	Port     int      `toml:"port" doc:"Its port; left out, 587 for starttls, 465 for tls and 25 for none." min:"1" max:"65535" example:"587"`
	TLS      string   `toml:"tls" doc:"starttls (a connection that becomes encrypted, or is given up), tls (encrypted from the beginning) or none (only to a loopback address)." oneof:"starttls tls none"`
	User     string   `toml:"user" doc:"The user at the mail server; empty does not log in." form:"argument" optional:"true"`
	Password Secret   `toml:"password" doc:"Its password: file:PATH, env:NAME or the password itself." example:"\"file:~/.adt-mail-password\""`
}

// On reports whether somebody is told.
func (n Notify) On() bool { return len(n.Mail.To) > 0 || !n.Webhook.IsZero() }

func notifyDefaults() Notify {
	const minute, hour = Duration(time.Minute), Duration(time.Hour)
	return Notify{
		Level: "INFO", PerHour: 10, Remind: 24 * hour, Lasting: 30 * minute, Quiet: hour, Keep: 72 * hour, KeepCount: 500, Timeout: Duration(20 * time.Second),
		Mail: NotifyMail{To: []string{}, Region: "eu-west-1", TLS: "starttls"},
	}
}

// deriveNotify fills in what a preset, or the kind of encryption, tells.
func (c *Config) deriveNotify(isSet func(string) bool, from func(key, origin string)) {
	m := &c.Notify.Mail
	if host := map[string]string{
		"sendpulse": "smtp-pulse.com",
		"mailjet":   "in-v3.mailjet.com",
		"ses":       "email-smtp." + m.Region + ".amazonaws.com",
	}[m.Preset]; m.Host == "" && host != "" {
		m.Host = host
		from("notify.mail.host", fmt.Sprintf("notify.mail.preset = %q", m.Preset))
	}
	if !isSet("notify.mail.port") {
		m.Port = map[string]int{"starttls": 587, "tls": 465, "none": 25}[m.TLS]
		from("notify.mail.port", "as notify.mail.tls")
	}
}

// checkNotify finds recipients that nothing could be delivered to.
func (c *Config) checkNotify(p *problems) {
	m := c.Notify.Mail
	if len(m.To) > 0 {
		c.checkServerOf(m, p)
	} else if p.sound("notify.mail.to") && (m.Host != "" || m.From != "" || m.User != "") {
		p.add("notify.mail.to", "missing, and the mail server, sender or user is set: write the addresses that get mail, such as [\"ops@example.com\"]")
	}
	if hook := c.Notify.Webhook; !hook.IsZero() && p.sound("notify.webhook") {
		c.checkHook(hook.Reveal(), p)
	}
}

func (c *Config) checkServerOf(m NotifyMail, p *problems) {
	if m.Host == "" && p.sound("notify.mail.host", "notify.mail.preset") {
		p.add("notify.mail.host", "missing: write the mail server, or preset = \"sendpulse\", \"mailjet\" or \"ses\"")
	}
	if m.From == "" && p.sound("notify.mail.from") {
		p.add("notify.mail.from", "missing: write the address that the mail comes from")
	}
	switch {
	case !p.sound("notify.mail.user", "notify.mail.password"):
	case m.User != "" && m.Password.IsZero():
		p.add("notify.mail.password", "missing: notify.mail.user logs in with one; write password = \"file:~/.adt-mail-password\" and put it into that file, mode 0600")
	case m.User == "" && !m.Password.IsZero():
		p.add("notify.mail.user", "missing: there is a password")
	}
	if m.TLS == "none" && m.Host != "" && !isLoopback(m.Host) && p.sound("notify.mail.tls", "notify.mail.host") {
		p.add("notify.mail.tls", "must be starttls or tls for %s: mail and password would be readable on the way", m.Host)
	}
}

// checkHook says what is wrong with a webhook's URL, and not a word of what it is.
func (c *Config) checkHook(hook string, p *problems) {
	const key = "notify.webhook"
	u, err := url.Parse(hook)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		p.add(key, "must be an address that begins with https://")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		p.add(key, "must begin with https://: it is a secret, and would be readable on the way")
	case u.User != nil || u.Fragment != "":
		p.add(key, "must have no user and #")
	}
}

// checkMail says what is wrong with an address.
func checkMail(v string) error {
	if _, err := mail.ParseAddress(v); err != nil {
		return fmt.Errorf("must be an address such as ops@example.com, is %s", describe(v))
	}
	return nil
}

// checkServer says what is wrong with the name or address of a server.
func checkServer(v string) error {
	if _, err := netip.ParseAddr(v); err == nil {
		return nil
	}
	if !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`).MatchString(v) {
		return fmt.Errorf("must be a host name or address alone, without port, such as smtp.example.com, is %s", describe(v))
	}
	return nil
}
