package config

// Cron is what adt cron install writes besides the commands.
type Cron struct {
	User     string `toml:"user" doc:"Who runs adt from /etc/cron.d/adt; root may reboot this machine. A user's own crontab (--user) is its owner's." form:"argument"`
	MailTo   string `toml:"mailto" doc:"Whom cron mails what adt has to say; none is nobody, and empty leaves it to what the crontab says." form:"argument" optional:"true"`
	TimeZone string `toml:"time_zone" doc:"The time zone in which the commands that cron starts tell times, such as Europe/London; empty is this machine's. Schedules have their own." form:"argument" optional:"true"`
}
