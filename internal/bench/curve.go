package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/streams"
)

// curve measures folding and writing alone, from messages in memory to
// committed rows, beside the upsert by hand, as the store grows. Half of the
// events update users that are there already, all over the table.
func (b *bench) curve(ctx context.Context) error {
	for _, users := range b.sizes.curve {
		rounds, err := b.foldAndWrite(ctx, users)
		if err != nil {
			return err
		}
		b.add(compare(fmt.Sprintf("fold and write, half updates, %d users there", users), "/s", rounds, "by hand, from memory", 0.8))
	}
	return nil
}

func (b *bench) foldAndWrite(ctx context.Context, users int) (rounds []pair, err error) {
	s, err := newStore(ctx, b.databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := fromMemory(ctx, s.db, firstUsers(users), 0); err != nil {
		return nil, err
	}
	generation, there, events := 0, users, min(users, b.curveEvents) // nobody twice
	next := func() (list []int) {
		generation++
		list = halfUpdates(users, there, events, generation)
		there += (events + 1) / 2
		return list
	}
	for range fewRounds {
		b.round()
		if err := s.checkpoint(ctx); err != nil {
			return nil, err
		}
		ours, err := s.apply(ctx, next(), generation)
		if err != nil {
			return nil, err
		}
		b.round()
		if err := s.checkpoint(ctx); err != nil {
			return nil, err
		}
		byHand, err := fromMemory(ctx, s.db, next(), generation)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, pair{ours, byHand})
	}
	var rows int
	err = s.db.QueryRow(ctx, "select count(*) from "+schema+".users").Scan(&rows)
	if err == nil && rows != there {
		err = fmt.Errorf("%d rows of %d users", rows, there)
	}
	return rounds, err
}

// batchSize is what the runtime applies at a time when there is a backlog.
const batchSize = 1024

// apply folds and writes an event for each user, preparing a batch while the
// one before is written, as the runtime does, and returns events a second.
func (b *back) apply(ctx context.Context, users []int, generation int) (rate float64, err error) {
	at, err := b.store.Position(ctx)
	if err != nil {
		return 0, err
	}
	messages := make([]streams.Message, len(users))
	for i, user := range users {
		m := message(user, generation)
		messages[i] = streams.Message{Subject: m.Subject, Header: m.Header, Data: m.Data, Sequence: at.Sequence + uint64(i) + 1, Time: time.Now()}
	}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	prepared := make(chan any, 1)
	g.Go(func() error {
		defer close(prepared)
		for chunk := range slices.Chunk(messages, batchSize) {
			work, rejected := b.store.Prepare(chunk)
			if len(rejected) > 0 {
				return fmt.Errorf("%d events were rejected", len(rejected))
			}
			select {
			case prepared <- work:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	g.Go(func() error {
		for work := range prepared {
			to := at
			to.Sequence++ // one a batch: only that it moves matters here
			if err := b.store.Commit(ctx, work, at, to, 0, 0); err != nil {
				return err
			}
			at = to
		}
		return nil
	})
	err = g.Wait()
	return float64(len(users)) / time.Since(began).Seconds(), err
}

func firstUsers(n int) []int {
	users := make([]int, n)
	for i := range users {
		users[i] = i
	}
	return users
}

// halfUpdates lists n users: every second is one of the first ones, all over
// them, the others come after those that are there.
func halfUpdates(users, there, n, round int) []int {
	list := make([]int, n)
	const stride = 7919 // a prime, so that it visits all of them
	for i := range list {
		if i%2 == 0 {
			list[i] = there + i/2
		} else {
			list[i] = (round + i*stride) % users
		}
	}
	return list
}
