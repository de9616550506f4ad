// Command adt keeps a fleet of webservers at the size its operator asked for.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"adt/commands"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := commands.Main(ctx, commands.System())
	stop()
	os.Exit(code)
}
