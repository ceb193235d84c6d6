package main

import (
	"fmt"
	"strconv"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/projection"
)

// The secrets that posts are signed with: two, as during a rotation.
const (
	secret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	rotated = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// userEvent is a user.updated of about 1.5 kB, in Clerk's documented shape. n
// makes it differ from the others.
func userEvent(user string, at time.Time, n int) []byte {
	ms := at.UnixMilli()
	return fmt.Appendf(nil, `{"data":{"birthday":"","created_at":1654012591514,"email_addresses":[{"email_address":"user%[1]d@example.org","id":"idn_29w83yL7CwVlJXylYLxcslromF1","linked_to":[],"object":"email_address","reserved":true,"verification":{"attempts":null,"expire_at":null,"status":"verified","strategy":"admin"}}],"external_accounts":[],"external_id":null,"first_name":"First%[1]d","gender":"","id":%[2]q,"image_url":"https://img.clerk.com/xxxxxx","last_name":"Last","last_sign_in_at":null,"object":"user","password_enabled":true,"phone_numbers":[],"primary_email_address_id":"idn_29w83yL7CwVlJXylYLxcslromF1","primary_phone_number_id":null,"primary_web3_wallet_id":null,"private_metadata":{},"profile_image_url":"https://www.gravatar.com/avatar?d=mp","public_metadata":{"plan":"pro","n":%[1]d},"two_factor_enabled":false,"unsafe_metadata":{},"updated_at":%[3]d,"username":null,"web3_wallets":[]},"event_attributes":{"http_request":{"client_ip":"0.0.0.0","user_agent":"Mozilla/5.0"}},"instance_id":"ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S","object":"event","timestamp":%[3]d,"type":"user.updated"}`, n, user, ms)
}

// generationAt is when the events of a generation happened.
func generationAt(generation int) time.Time { return time.Unix(1_700_000_000+int64(generation), 0) }

// eventID is of the event that makes a user as the generation has it.
func eventID(n, generation int) string { return fmt.Sprintf("msg_fill_%d_%d", generation, n) }

// versionOf is the version that the store gives to such an event.
func versionOf(n, generation int) projection.Version {
	ms := generationAt(generation).UnixMilli()
	return projection.NewVersion(projection.ClassOwn, false, ms, ms, 2, eventID(n, generation))
}

func userID(n int) string { return fmt.Sprintf("user_2bench%020d", n) }

// post is one signed webhook.
type post struct {
	user                     string
	id, timestamp, signature string
	request                  []byte // as it goes over the wire
	body                     []byte // its end
}

// signer makes posts.
type signer struct {
	webhooks [2]*svix.Webhook // by secret, rotated
	run      string           // keeps the ids of one measurement from another's
}

func newSigner(run string) (*signer, error) {
	s := &signer{run: run}
	for i, secret := range []string{secret, rotated} {
		w, err := svix.NewWebhook(secret)
		if err != nil {
			return nil, fmt.Errorf("signing secret: %w", err)
		}
		s.webhooks[i] = w
	}
	return s, nil
}

// post signs event n, about its own user, that happened at the given time.
func (s *signer) post(n int, happened time.Time, webhook int) (post, error) {
	p, now := post{user: userID(n), id: fmt.Sprintf("msg_%s_%d", s.run, n)}, time.Now()
	p.body = userEvent(p.user, happened, n)
	p.timestamp = strconv.FormatInt(now.Unix(), 10)
	var err error
	if p.signature, err = s.webhooks[webhook].Sign(p.id, now, p.body); err != nil {
		return post{}, fmt.Errorf("sign: %w", err)
	}
	p.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Svix-Webhooks/1.62\r\nContent-Type: application/json\r\nContent-Length: %d\r\nsvix-id: %s\r\nsvix-timestamp: %s\r\nsvix-signature: %s\r\n\r\n%s",
		ingest.Path, len(p.body), p.id, p.timestamp, p.signature, p.body)
	p.body = p.request[len(p.request)-len(p.body):]
	return p, nil
}

// fresh are posts of the events from to to.
func (s *signer) fresh(from, to int) ([]post, error) {
	posts := make([]post, 0, to-from)
	for n := from; n < to; n++ {
		p, err := s.post(n, time.Now(), 0)
		if err != nil {
			return nil, err
		}
		posts = append(posts, p)
	}
	return posts, nil
}

// twice are posts of n events, each twice in a row under one svix-id, signed by
// two endpoints' secrets: Clerk's documented rotation.
func (s *signer) twice(n int) ([]post, error) {
	posts := make([]post, 0, 2*n)
	for i := range n {
		for webhook := range s.webhooks {
			p, err := s.post(i, time.Now(), webhook)
			if err != nil {
				return nil, err
			}
			posts = append(posts, p)
		}
	}
	return posts, nil
}

// late are posts of which every 20th repeats one of the events 0 to stored,
// as Svix's retries do: minutes after the event. The others are fresh.
func (s *signer) late(n, stored int) ([]post, error) {
	posts := make([]post, 0, n)
	for i := range n {
		event, happened := stored+i, time.Now()
		if i%20 == 19 {
			event, happened = i/20, happened.Add(-5*time.Minute)
		}
		p, err := s.post(event, happened, 0)
		if err != nil {
			return nil, err
		}
		posts = append(posts, p)
	}
	return posts, nil
}
