package commands

import (
	"context"
	"errors"
	"fmt"

	"adt/autoscaler"
	"adt/lock"
)

// The exit codes of every subcommand; help and README show this table.
const (
	exitOK          = 0   // done, or nothing to do
	exitFailed      = 1   // failed
	exitUsage       = 2   // usage or configuration
	exitHeld        = 3   // not acted because a brake or pause holds
	exitInterrupted = 130 // interrupted
)

const exitTable = `EXIT CODES:
   0    done, or nothing to do (also: another tick of the command is at work)
   1    failed
   2    wrong usage or configuration
   3    something was due and not done, because a brake or a pause holds
   130  interrupted
`

// usageError is the operator's mistake: one line that says what would be right.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// toldError is an error that the operator was told of already.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// errHeldBack ends a command that found something due and held it back. What
// and why was shown already.
var errHeldBack error = toldError{errors.New("held back")}

// exitCode is the one place where errors become exit codes.
func exitCode(ctx context.Context, err error) int {
	var usage usageError
	var elsewhere *autoscaler.HeldError
	switch {
	case err == nil, errors.Is(err, lock.ErrHeld):
		return exitOK
	case errors.As(err, &usage), errors.Is(err, autoscaler.ErrRefused):
		return exitUsage
	case errors.Is(err, errHeldBack), errors.Is(err, autoscaler.ErrImplausible), errors.As(err, &elsewhere):
		return exitHeld
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitFailed
}
