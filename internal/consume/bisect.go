package consume

import "context"

// bisecter applies items, in order, and finds those that can't be applied.
type bisecter[T any] struct {
	prepare func([]T) (work any, rejected map[int]error)
	commit  func(context.Context, []T, any) error
	bury    func(context.Context, T, error) error // of one that can't be applied, and why
}

// apply prepares and commits items.
func (b bisecter[T]) apply(ctx context.Context, items []T) error {
	if len(items) == 0 {
		return nil
	}
	work, rejected := b.prepare(items)
	return b.applyPrepared(ctx, items, work, rejected)
}

// applyPrepared commits what was prepared; poison in it is bisected out.
func (b bisecter[T]) applyPrepared(ctx context.Context, items []T, work any, rejected map[int]error) error {
	if len(rejected) > 0 {
		return b.around(ctx, items, rejected)
	}
	err := b.commit(ctx, items, work)
	if isPoison(err) {
		return b.bisect(ctx, items, err)
	}
	return err
}

// around commits what stands between the rejected items.
func (b bisecter[T]) around(ctx context.Context, items []T, rejected map[int]error) error {
	from := 0
	for i := range items {
		reason, bad := rejected[i]
		if !bad {
			continue
		}
		if err := b.apply(ctx, items[from:i]); err != nil {
			return err
		}
		if err := b.bury(ctx, items[i], reason); err != nil {
			return err
		}
		from = i + 1
	}
	return b.apply(ctx, items[from:])
}

// bisect finds the items that can't be applied, and applies all others.
func (b bisecter[T]) bisect(ctx context.Context, items []T, reason error) error {
	if len(items) == 1 {
		return b.bury(ctx, items[0], reason)
	}
	half := len(items) / 2
	if err := b.apply(ctx, items[:half]); err != nil {
		return err
	}
	return b.apply(ctx, items[half:])
}
