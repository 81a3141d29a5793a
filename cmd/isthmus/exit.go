package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// The exit codes; the help of the root command explains them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitJudged      = 3
	exitUnreachable = 4
	exitRefused     = 5
	exitConflict    = 6
	exitDiffers     = 7
	exitAborted     = 8
	exitUnknown     = 9
)

// verbError is an error of a verb that ran, with its exit code. Errors without it come from cobra: the command line is wrong.
type verbError struct {
	error
	code int
}

func (e *verbError) Unwrap() error { return e.error }

// errSaid ends a verb that has told everything already.
var errSaid = errors.New("")

// usage makes an error one of the command line or the file.
func usage(err error) error { return &verbError{err, exitUsage} }

// exitCodes are those of the errors that a node answers with.
var exitCodes = []struct {
	is   error
	code int
}{
	{admin.ErrUnreachable, exitUnreachable},
	{admin.ErrLogin, exitRefused},
	{admin.ErrDenied, exitRefused},
	{admin.ErrConfirm, exitRefused},
	{gossip.ErrConflict, exitConflict},
	{admin.ErrInvalid, exitUsage},
}

// verb makes what a verb does into what cobra runs, so that its errors get their codes.
func verb(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := do(cmd, args)
		var have *verbError
		var faults topology.Errors
		switch {
		case err == nil || errors.As(err, &have):
			return err
		case errors.As(err, &faults):
			return &verbError{err, exitUsage}
		case errors.Is(err, context.Canceled) && cmd.Context().Err() != nil:
			return &verbError{errors.New("interrupted"), exitFailed}
		}
		for _, c := range exitCodes {
			if errors.Is(err, c.is) {
				return &verbError{err, c.code}
			}
		}
		return &verbError{err, exitFailed}
	}
}

func isVerbError(err error) bool {
	var v *verbError
	return errors.As(err, &v)
}

// exitCode is the code for what a command returned.
func exitCode(err error) int {
	var v *verbError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &v):
		return v.code
	}
	return exitUsage
}
