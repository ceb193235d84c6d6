package traffic

import (
	"slices"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// subscription is a change of any subscription.
func (t *Traffic) subscription(change func(state.Request, *state.Subscription) error) error {
	s := t.in.PickSubscription(t.rng)
	if s == nil {
		return errNothing
	}
	return change(t.request(), s)
}

// subscribe makes a user or an organization pay, that doesn't yet.
func (t *Traffic) subscribe() error {
	var p state.SubscriptionParams
	plan := oneOf(t, t.in.Plans()...)
	if plan.ForOrgs {
		o := t.in.PickOrganization(t.rng)
		if o == nil || t.in.SubscriptionOf(o.ID) != nil {
			return errNothing
		}
		p.OrganizationID, p.Seats = o.ID, plan.Seats
	} else {
		u := t.in.PickUser(t.rng)
		if u == nil || t.in.SubscriptionOf(u.ID) != nil {
			return errNothing
		}
		p.UserID = u.ID
	}
	p.Plan, p.Annual, p.FreeTrial = plan.Slug, t.one(4), t.one(4)
	_, err := t.in.CreateSubscription(t.request(), p)
	return err
}

func (t *Traffic) subscriptionStatus() error {
	return t.subscription(func(req state.Request, s *state.Subscription) error {
		to := state.BillingPastDue
		if s.Status == state.BillingPastDue {
			to = state.BillingActive
		}
		_, err := t.in.UpdateSubscriptionStatus(req, s.ID, to)
		return err
	})
}

func (t *Traffic) subscriptionItem() error {
	return t.subscription(func(req state.Request, s *state.Subscription) error {
		items := slices.DeleteFunc(slices.Clone(t.in.ItemsOfSubscription(s.ID)), (*state.SubscriptionItem).Over)
		if len(items) == 0 {
			return errNothing
		}
		i := oneOf(t, items...)
		to := oneOf(t, state.BillingActive, state.BillingPastDue, state.BillingCanceled, state.BillingEnded)
		if to == i.Status {
			_, err := t.in.AnnounceFreeTrialEnding(req, i.ID)
			return err
		}
		_, err := t.in.UpdateSubscriptionItemStatus(req, i.ID, to)
		return err
	})
}

func (t *Traffic) pay() error {
	return t.subscription(func(req state.Request, s *state.Subscription) error {
		p, err := t.in.CreatePaymentAttempt(req, state.PaymentParams{SubscriptionID: s.ID, ChargeType: oneOf(t, "checkout", "recurring")})
		if err == nil {
			t.owing.add(t.rng, p.ID)
		}
		return err
	})
}

func (t *Traffic) settlePayment() error {
	id, ok := t.owing.take(t.rng)
	if !ok {
		return errNothing
	}
	failure := ""
	if t.one(6) {
		failure = "card_declined"
	}
	_, err := t.in.SettlePaymentAttempt(t.request(), id, failure)
	return err
}
