package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// OriginalSettings is the file with what the original's autoscaler scripts are
// told, as KEY:value lines.
const OriginalSettings = "autoscaler_configuration_settings.dat"

// OriginalFiles are the settings files in the original's runtime directory that
// ImportOriginal reads. Only the first has to be there.
func OriginalFiles() []string {
	return []string{OriginalSettings, "webserver_configuration_settings.dat", "buildstyles.dat", "firewallports.dat", "application.dat"}
}

// Verdict is what became of a line of the original's settings.
type Verdict string

const (
	Took   Verdict = "took"   // it is in adt.toml or among the secrets
	Left   Verdict = "left"   // adt does not use it, or not yet
	Chosen Verdict = "chosen" // no line says it, it was concluded
)

// Note tells of one line of the original's settings. It holds no secret.
type Note struct {
	File    string  `json:"file,omitempty"` // "" for what was chosen
	Line    int     `json:"line,omitempty"` // from 1
	Key     string  `json:"key"`            // the original's, or ours for what was chosen
	Value   string  `json:"value,omitempty"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
}

func (n Note) String() string {
	where := n.File
	if n.Line > 0 {
		where = fmt.Sprintf("%s:%d", n.File, n.Line)
	}
	said := n.Key
	if n.Value != "" {
		said += ":" + n.Value
	}
	return strings.TrimSpace(fmt.Sprintf("%-7s %s %s → %s", n.Verdict, where, said, n.Why))
}

// Imported is what the original's settings are for adt.
type Imported struct {
	TOML    []byte            // adt.toml; its secrets are references to the secrets file
	Secrets map[string]string // by the names in the references
	Notes   []Note            // one for each line, in the order of the files, then what was chosen
}

// SecretsFile is the text of the file that the references point into.
func (i Imported) SecretsFile() []byte {
	var b bytes.Buffer
	b.WriteString("# Secrets of adt.toml: keep this file at mode 600.\n")
	_ = toml.NewEncoder(&b).Encode(i.Secrets) // texts can be written
	return b.Bytes()
}

// line is one KEY:value of a settings file.
type line struct {
	file       string
	number     int
	key, value string
}

// Original is an installation of the original.
type Original struct {
	Files       map[string][]byte // by their names, see OriginalFiles
	Autoscalers int               // how many there are, which no file says
	Number      int               // of this one; 0 leaves that to the host name
	// Hash makes the crypt(3) hash of a password, for new webservers; nil or an
	// error leaves that out.
	Hash func(password string) (string, error)
}

// ImportOriginal turns the original's settings into adt's. secrets is the path
// of the secrets file, as adt.toml shall name it. An error names the line that
// stands in the way.
func ImportOriginal(o Original, secrets string) (Imported, error) {
	im := &importer{secrets: secrets, hash: o.Hash, values: map[string]map[string]any{}, out: Imported{Secrets: map[string]string{}}}
	text, ok := o.Files[OriginalSettings]
	if !ok {
		return Imported{}, fmt.Errorf("there is no %s", OriginalSettings)
	}
	im.read(text)
	for _, step := range []func() error{im.fleet, im.servers, im.dns, im.machines, im.store, im.mail, im.proxies} {
		if err := step(); err != nil {
			return Imported{}, err
		}
	}
	im.leave()
	for _, name := range OriginalFiles()[1:] {
		if _, ok := o.Files[name]; ok {
			im.note(Note{File: name, Key: "all of it", Verdict: Left, Why: whyWhole(name)})
		}
	}
	slices.SortStableFunc(im.out.Notes, func(a, b Note) int {
		rank := func(n Note) int { return slices.Index(append(OriginalFiles(), ""), n.File) }
		return cmp.Or(rank(a)-rank(b), a.Line-b.Line)
	})
	im.choose("autoscaler", "count", max(1, o.Autoscalers), "how many autoscalers share the fleet is in no settings file: --autoscalers says it")
	if o.Number > 0 {
		im.choose("autoscaler", "number", o.Number, "--number said it")
	}
	im.choose("provider", "adopt", true, "the running webservers and their DNS records bear no mark of adt: they count as ours by their names")
	im.choose("ssh", "shared_host_key", true, "the running webservers show the build key as their SSH host key")
	var b bytes.Buffer
	b.WriteString("# Made by adt config import from the original's settings. adt config example explains every key.\n")
	if err := toml.NewEncoder(&b).Encode(im.values); err != nil {
		return Imported{}, err
	}
	im.out.TOML = b.Bytes()
	return im.out, nil
}

// whyWhole says why a settings file beside OriginalSettings is left as it is.
func whyWhole(file string) string {
	switch file {
	case "firewallports.dat":
		return "adt firewall reads it where it is, once [firewall] says what else is let in"
	case "application.dat":
		return "it is the application's business"
	}
	return "it is given to new webservers as it is (cloudinit.settings)"
}

// importer collects what is taken.
type importer struct {
	secrets string
	hash    func(string) (string, error)
	lines   []line
	values  map[string]map[string]any // section → key → value, or the section in it
	out     Imported
}

// read splits the settings into lines. A value may hold colons.
func (im *importer) read(text []byte) {
	for i, raw := range strings.Split(string(text), "\n") {
		raw = strings.TrimSpace(strings.ToValidUTF8(raw, "?"))
		if raw == "" || strings.HasPrefix(raw, "#") {
			continue
		}
		key, value, ok := strings.Cut(raw, ":")
		if !ok {
			im.note(Note{File: OriginalSettings, Line: i + 1, Key: "a line without a colon", Verdict: Left, Why: "it says nothing"})
			continue
		}
		im.lines = append(im.lines, line{OriginalSettings, i + 1, strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)})
	}
}

func (im *importer) note(n Note) { im.out.Notes = append(im.out.Notes, n) }

// find takes a key's line out: the last with a value, as the original's scripts
// append changes. Those before it are said to be overruled.
func (im *importer) find(key string) (line, bool) {
	var found line
	for _, l := range im.lines {
		if l.key != key || l.value == "" {
			continue
		}
		if found.number > 0 {
			im.note(Note{File: found.file, Line: found.number, Key: key, Verdict: Left, Why: fmt.Sprintf("line %d says it again", l.number)})
		}
		found = l
	}
	if found.number > 0 {
		im.lines = slices.DeleteFunc(im.lines, func(l line) bool { return l.key == key && l.value != "" })
	}
	return found, found.number > 0
}

// take puts a value into adt.toml.
func (im *importer) take(l line, section, key string, value any) {
	im.set(section, key, value)
	im.note(Note{File: l.file, Line: l.number, Key: l.key, Value: l.value, Verdict: Took, Why: section + "." + key + worded(value, l.value)})
}

// worded adds a value where it is not what the line says.
func worded(value any, original string) string {
	if text := fmt.Sprint(value); text != original {
		return " = " + text
	}
	return ""
}

// takeSecret puts a value among the secrets and a reference to it into adt.toml.
func (im *importer) takeSecret(l line, section, key string) {
	im.set(section, key, "file:"+im.secrets+"#"+l.key)
	im.out.Secrets[l.key] = l.value
	im.note(Note{File: l.file, Line: l.number, Key: l.key, Value: "***", Verdict: Took, Why: section + "." + key + ", its value is in the secrets file"})
}

func (im *importer) choose(section, key string, value any, why string) {
	if _, said := im.values[section][key]; said {
		return
	}
	im.set(section, key, value)
	im.note(Note{Key: section + "." + key, Value: fmt.Sprint(value), Verdict: Chosen, Why: why})
}

func (im *importer) set(section, key string, value any) {
	section, inner, nested := strings.Cut(section, ".")
	if im.values[section] == nil {
		im.values[section] = map[string]any{}
	}
	table := im.values[section]
	if nested {
		if table[inner] == nil {
			table[inner] = map[string]any{}
		}
		table, _ = table[inner].(map[string]any)
	}
	table[key] = value
}

// text takes a line as it is; required says that adt cannot do without.
func (im *importer) text(original, section, key string, required bool) error {
	l, ok := im.find(original)
	if !ok && required {
		return fmt.Errorf("%s: there is no %s, which %s.%s is made from", OriginalSettings, original, section, key)
	}
	if ok {
		im.take(l, section, key, l.value)
	}
	return nil
}

// fleet is what the names of webservers are made from, and the website.
func (im *importer) fleet() error {
	for _, t := range []struct {
		original, section, key string
		required               bool
	}{
		{"BUILDIDENTIFIER", "autoscaler", "build", true},
		{"REGION", "autoscaler", "region", true},
		{"SERVERUSER", "autoscaler", "user", true},
		{"WEBSITEURL", "website", "url", true},
	} {
		if err := im.text(t.original, t.section, t.key, t.required); err != nil {
			return err
		}
	}
	if l, ok := im.find("MAXWEBSERVERS"); ok {
		n, err := strconv.Atoi(l.value)
		if err != nil || n < 1 || n > 20 {
			return l.wrong("must be a number from 1 to 20")
		}
		im.take(l, "autoscaler", "max_webservers", n)
	}
	if l, ok := im.find("APPLICATION"); ok {
		application := strings.ToLower(l.value)
		if !slices.Contains([]string{"joomla", "wordpress", "drupal", "moodle"}, application) {
			application = "none"
		}
		im.take(l, "website", "application", application)
	}
	if l, ok := im.find("APPLICATIONLANGUAGE"); ok {
		switch strings.ToUpper(l.value) {
		case "PHP":
			im.take(l, "website", "head_file", "index.php")
		default:
			im.take(l, "website", "head_file", "index.html")
		}
	}
	return nil
}

func (l line) wrong(what string) error {
	return fmt.Errorf("%s:%d: %s:%s: %s", l.file, l.number, l.key, l.value, what)
}

// servers is where machines come from and what they are made of.
func (im *importer) servers() error {
	l, ok := im.find("CLOUDHOST")
	switch {
	case !ok:
		return fmt.Errorf("%s: there is no CLOUDHOST, which provider.servers is made from", OriginalSettings)
	case l.value != "digitalocean":
		return l.wrong("adt has no driver for the machines of this provider yet; there is digitalocean")
	}
	im.take(l, "provider", "servers", l.value)
	if l, ok := im.find("TOKEN"); ok {
		im.takeSecret(l, "digitalocean", "token")
	} else {
		return fmt.Errorf("%s: there is no TOKEN, which digitalocean.token is made from", OriginalSettings)
	}
	for _, key := range []string{"SIZE", "WSSERVERTYPE"} { // the older name first: the newer one overrules it
		if err := im.text(key, "digitalocean", "size", false); err != nil {
			return err
		}
	}
	im.image()
	if err := im.text("VPCNAME", "digitalocean", "vpc", false); err != nil {
		return err
	}
	im.choose("digitalocean", "vpc", "adt-vpc", "the original's machines are in the VPC of this name")
	if l, ok := im.find("ACTIVEFIREWALLS"); ok {
		im.take(l, "digitalocean", "firewall", l.value == "2" || l.value == "3")
	}
	return nil
}

// image is a snapshot, or a public image by its slug.
func (im *importer) image() {
	from, _ := im.find("BUILDFROMSNAPSHOT")
	snapshot, ok := im.find("SNAPSHOTID")
	if ok && from.value == "1" {
		im.take(from, "cloudinit", "template", "original-snapshot")
		im.take(snapshot, "digitalocean", "image", snapshot.value)
		return
	}
	if from.number > 0 {
		im.note(Note{File: from.file, Line: from.number, Key: from.key, Value: from.value, Verdict: Left, Why: "webservers are built from a public image, which is adt's default"})
	}
	if ok {
		im.note(Note{File: snapshot.file, Line: snapshot.number, Key: snapshot.key, Value: snapshot.value, Verdict: Left, Why: "webservers are not built from a snapshot"})
	}
	system, hasSystem := im.find("BUILDOS")
	version, hasVersion := im.find("BUILDOSVERSION")
	if !hasSystem || !hasVersion {
		return
	}
	slug := strings.ToLower(system.value) + "-" + strings.ReplaceAll(version.value, ".", "-") + "-x64"
	im.take(system, "digitalocean", "image", slug)
	im.take(version, "digitalocean", "image", slug)
}

// dns is where the A records are.
func (im *importer) dns() error {
	l, ok := im.find("DNSCHOICE")
	if !ok {
		return nil // where the machines are
	}
	if l.value != "digitalocean" && l.value != "cloudflare" {
		return l.wrong("adt has no driver for the DNS of this provider yet; there are digitalocean and cloudflare")
	}
	im.take(l, "provider", "dns", l.value)
	if l.value == "cloudflare" {
		im.choose("website", "ttl", "120s", "the original's at Cloudflare")
	}
	key, hasKey := im.find("DNSSECURITYKEY")
	user, hasUser := im.find("DNSUSERNAME")
	if l.value == "digitalocean" {
		for _, l := range []line{key, user} {
			if l.number > 0 {
				im.note(Note{File: l.file, Line: l.number, Key: l.key, Verdict: Left, Why: "digitalocean.token is used for DNS too"})
			}
		}
		return nil
	}
	if !hasKey {
		return fmt.Errorf("%s: there is no DNSSECURITYKEY, which cloudflare.token is made from", OriginalSettings)
	}
	if hasUser && strings.Contains(user.value, "@") && !strings.Contains(key.value, ":::") && isGlobalKey(key.value) {
		im.take(user, "cloudflare", "email", user.value)
		im.takeSecret(key, "cloudflare", "global_key")
		return nil
	}
	if hasUser {
		im.note(Note{File: user.file, Line: user.number, Key: user.key, Value: user.value, Verdict: Left, Why: "an API token needs no user"})
	}
	im.takeSecret(key, "cloudflare", "token")
	return nil
}

// isGlobalKey recognises the form of Cloudflare's global API keys: 37
// hexadecimal digits.
func isGlobalKey(key string) bool {
	return len(key) == 37 && strings.Trim(strings.ToLower(key), "0123456789abcdef") == ""
}

// machines is how webservers are logged in to and set up.
func (im *importer) machines() error {
	if l, ok := im.find("SSHPORT"); ok {
		port, err := strconv.Atoi(l.value)
		if err != nil || port < 1 || port > 65535 {
			return l.wrong("must be a port from 1 to 65535")
		}
		im.take(l, "ssh", "port", port)
	}
	if l, ok := im.find("ALGORITHM"); ok {
		im.take(l, "ssh", "key", fmt.Sprintf("~/.ssh/id_%s_AGILE_DEPLOYMENT_BUILD_KEY_%s", l.value, im.values["autoscaler"]["build"]))
	}
	if l, ok := im.find("SERVERUSERPASSWORD"); ok {
		im.takeSecret(l, "ssh", "sudo_password")
		im.hashed(l)
	}
	continent, hasContinent := im.find("SERVERTIMEZONECONTINENT")
	city, hasCity := im.find("SERVERTIMEZONECITY")
	if hasContinent && hasCity {
		zone := continent.value + "/" + city.value
		im.take(continent, "cloudinit", "time_zone", zone)
		im.take(city, "cloudinit", "time_zone", zone)
	}
	owner, hasOwner := im.find("INFRASTRUCTUREREPOSITORYOWNER")
	provider, hasProvider := im.find("INFRASTRUCTUREREPOSITORYPROVIDER")
	if hasOwner && hasProvider {
		host := map[string]string{"github": "github.com", "bitbucket": "bitbucket.org", "gitlab": "gitlab.com"}[strings.ToLower(provider.value)]
		if host == "" {
			host = provider.value
		}
		address := (&url.URL{Scheme: "https", Host: host, Path: "/" + owner.value + "/adt-webserver-scripts.git"}).String()
		im.take(owner, "cloudinit", "repository", address)
		im.take(provider, "cloudinit", "repository", address)
	}
	return nil
}

// store is the S3 datastore: several endpoints, and their keys and regions, are
// chained with |.
func (im *importer) store() error {
	has := func(key string) bool {
		return slices.ContainsFunc(im.lines, func(l line) bool { return l.key == key && l.value != "" })
	}
	if !has("S3HOSTBASE") || !has("S3ACCESSKEY") || !has("S3SECRETKEY") {
		return nil
	}
	l, _ := im.find("S3HOSTBASE")
	var endpoints []string
	for host := range strings.SplitSeq(l.value, "|") {
		endpoints = append(endpoints, "https://"+strings.TrimPrefix(host, "https://"))
	}
	im.take(l, "datastore", "endpoints", endpoints)
	l, _ = im.find("S3ACCESSKEY")
	im.takeSecret(l, "datastore", "access_key")
	l, _ = im.find("S3SECRETKEY")
	im.takeSecret(l, "datastore", "secret_key")
	if l, ok := im.find("S3LOCATION"); ok {
		im.take(l, "datastore", "region", l.value)
	}
	im.choose("datastore", "driver", "s3", "the original's profiles are in a bucket there, and its commands are obeyed")
	im.choose("datastore", "require_installed", true, "the original does nothing before INSTALLED_SUCCESSFULLY is in the config bucket")
	return nil
}

// mail is who is told, through which provider. The original sends nothing unless
// it has all of it.
func (im *importer) mail() error {
	has := func(key string) (last string) {
		for _, l := range im.lines {
			if l.key == key && l.value != "" {
				last = l.value
			}
		}
		return last
	}
	preset, known := map[string]string{"1": "sendpulse", "2": "mailjet", "3": "ses"}[has("EMAILPROVIDER")]
	to := strings.FieldsFunc(has("SYSTEMTOEMAILADDRESS"), func(r rune) bool { return strings.ContainsRune(" ,;", r) })
	sound := known && len(to) > 0 && has("EMAILUSERNAME") != "" && has("EMAILPASSWORD") != "" && checkMail(has("SYSTEMFROMEMAILADDRESS")) == nil
	if !sound || slices.ContainsFunc(to, func(address string) bool { return checkMail(address) != nil }) {
		return nil
	}
	const section = "notify.mail"
	l, _ := im.find("EMAILPROVIDER")
	im.take(l, section, "preset", preset) // 3 is the original's region, which is our default
	l, _ = im.find("SYSTEMTOEMAILADDRESS")
	im.take(l, section, "to", to)
	l, _ = im.find("SYSTEMFROMEMAILADDRESS")
	im.take(l, section, "from", l.value)
	l, _ = im.find("EMAILUSERNAME")
	im.take(l, section, "user", l.value)
	l, _ = im.find("EMAILPASSWORD")
	im.takeSecret(l, section, "password")
	if l, ok := im.find("EMAILNOTIFICATIONLEVEL"); ok {
		level := "INFO"
		if l.value == "ERROR" {
			level = "ERROR"
		}
		im.take(l, "notify", "level", level)
	}
	return nil
}

// hashed gives new webservers the hash of the server user's password.
func (im *importer) hashed(l line) {
	const name = "SERVERUSERPASSWORDHASH"
	note := Note{Key: "cloudinit.password_hash", Verdict: Chosen, Why: "the hash of SERVERUSERPASSWORD, as new webservers get no password; its value is in the secrets file"}
	hash, err := "", errors.New("there is no openssl")
	if im.hash != nil {
		hash, err = im.hash(l.value)
	}
	if err != nil {
		note.Verdict, note.Why = Left, fmt.Sprintf("not made (%v): mkpasswd -m sha512crypt makes it; without it sudo on new webservers asks for no password", err)
	} else {
		im.set("cloudinit", "password_hash", "file:"+im.secrets+"#"+name)
		im.out.Secrets[name] = hash
	}
	im.note(note)
}

// proxies are those of the original, which its two scripts change.
func (im *importer) proxies() error {
	l, ok := im.find("NOREVERSEPROXY")
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(l.value)
	switch {
	case err != nil || n < 0 || n > 5:
		return l.wrong("must be a number from 0 to 5")
	case n == 0:
		im.lines = append(im.lines, l)
		return nil
	}
	im.take(l, "proxies", "count", n)
	im.choose("proxies", "enabled", true, "NOREVERSEPROXY says that there are some")
	im.choose("proxies", "kind", "original", "the original's two scripts on them add and remove webservers")
	return nil
}

// leave notes all lines that nothing was made of.
func (im *importer) leave() {
	for _, l := range im.lines {
		im.note(Note{File: l.file, Line: l.number, Key: l.key, Verdict: Left, Why: whyLeft(l)})
	}
}

func whyLeft(l line) string {
	if l.value == "" {
		return "it is empty"
	}
	for _, r := range []struct{ prefixes, why string }{
		{"EMAIL SYSTEMFROMEMAIL SYSTEMTOEMAIL", "mail needs EMAILPROVIDER (1, 2 or 3), EMAILUSERNAME, EMAILPASSWORD, SYSTEMFROMEMAILADDRESS and SYSTEMTOEMAILADDRESS"},
		{"S3", "an S3 datastore needs S3HOSTBASE, S3ACCESSKEY and S3SECRETKEY"},
		{"DATASTORE", "adt needs no tool for S3"},
		{"DB DATABASE", "adt makes no database; the allow list of a managed one is the section [database]"},
		{"NOREVERSEPROXY", "there are no reverse proxies"},
		{"MULTIREGION PRIMARYREGION", "where a managed database is shared by regions, database.multi_region says so"},
		{"MYIP MYPUBLICIP ASIP BUILDMACHINE", "adt does not need it"},
		{"KEYID", "adt finds the key by its name, digitalocean.ssh_key"},
		{"VPCIPRANGE SUBNETID", "adt finds the VPC by its name, digitalocean.vpc"},
		{"GIT APPLICATION INFRASTRUCTURE SSL PHP WEBSERVERCHOICE WEBSITE PERSIST DIRECTORIES", "it is for the webserver scripts, which get it in their own settings"},
	} {
		for prefix := range strings.FieldsSeq(r.prefixes) {
			if strings.HasPrefix(l.key, prefix) {
				return r.why
			}
		}
	}
	return "adt has no use for it"
}
