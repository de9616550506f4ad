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
	// Signals are taken to the very end: a second one, such as timeout(1) sends,
	// must not make a kill of an orderly end.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit(commands.Main(ctx, commands.System()))
}
