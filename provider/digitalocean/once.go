package digitalocean

import "context"

// turn is had by one at a time. Who waits for it gives up with its context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// remembered is a value that is asked for once. A failure is not remembered.
type remembered[T any] struct {
	turn  turn
	known bool
	value T
}

func remember[T any]() remembered[T] { return remembered[T]{turn: newTurn()} }

func (r *remembered[T]) get(ctx context.Context, ask func() (T, error)) (value T, err error) {
	if err := r.turn.take(ctx); err != nil {
		return value, err
	}
	defer r.turn.give()
	if r.known {
		return r.value, nil
	}
	if value, err = ask(); err == nil {
		r.value, r.known = value, true
	}
	return value, err
}
