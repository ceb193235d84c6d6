package state

import (
	"cmp"
	"net/http"
	"strings"
)

// CreateSubscription subscribes a payer to a plan.
func (in *Instance) CreateSubscription(req Request, p SubscriptionParams) (*Subscription, error) {
	c := in.begin(req)
	defer c.end()
	plan := c.plan(p.Plan)
	switch {
	case (p.UserID == "") == (p.OrganizationID == ""):
		return nil, Missing("user_id or organization_id")
	case p.UserID != "" && c.users.get(p.UserID) == nil:
		return nil, NotFound("user", p.UserID)
	case p.OrganizationID != "" && c.organizations.get(p.OrganizationID) == nil:
		return nil, NotFound("organization", p.OrganizationID)
	case plan == nil:
		return nil, NotFound("plan", p.Plan)
	}
	at := c.tick()
	s := &Subscription{
		ID: c.newID("csub_"), Status: BillingActive, PaymentSourceID: OptString(c.newID("cps_")), ActiveAt: OptInt(at),
		Payer:     Payer{ID: c.newID("cpayer_"), UserID: p.UserID, OrganizationID: p.OrganizationID, CreatedAt: at, UpdatedAt: at},
		CreatedAt: at, UpdatedAt: at,
	}
	c.addSubscription(s)
	i := c.newItem(s.ID, plan, p.Annual, p.Seats, BillingActive)
	i.IsFreeTrial = p.FreeTrial
	c.addItem(i)
	c.emit("subscription.created", s.ID, c.subscriptionEvent(s))
	c.emit("subscriptionItem.created", i.ID, c.itemEvent(i, true))
	return s, nil
}

func (c *change) newItem(subscriptionID string, plan *Plan, annual bool, seats int64, status string) *SubscriptionItem {
	i := &SubscriptionItem{
		ID: c.newID("csub_item_"), SubscriptionID: subscriptionID, PlanID: plan.ID, PlanPeriod: "month", Status: status,
		Seats: OptInt(cmp.Or(seats, plan.Seats)), UpdatedAt: c.tick(),
	}
	days := int64(30)
	if annual {
		i.PlanPeriod, days = "annual", 365
	}
	i.CreatedAt, i.PeriodStart = i.UpdatedAt, i.UpdatedAt
	i.PeriodEnd = OptInt(i.PeriodStart + days*dayMillis)
	return i
}

// UpdateSubscriptionStatus moves a subscription; its items stay as they are.
func (in *Instance) UpdateSubscriptionStatus(req Request, id, status string) (*Subscription, error) {
	c := in.begin(req)
	defer c.end()
	old := c.subscriptions.get(id)
	if old == nil {
		return nil, NotFound("subscription", id)
	}
	if itemEventName(status) == "" || status == BillingUpcoming || status == BillingExpired { // an item's only
		return nil, InvalidValue("status", status)
	}
	s := *old
	s.Status, s.UpdatedAt = status, c.advance(s.UpdatedAt)
	at, event := OptInt(c.lastTick), "subscription.updated"
	switch status {
	case BillingActive:
		s.ActiveAt, s.PastDueAt, event = at, 0, "subscription.active"
	case BillingPastDue:
		s.PastDueAt, event = at, "subscription.pastDue"
	case BillingCanceled:
		s.CanceledAt = at
	case BillingEnded:
		s.EndedAt = at
	}
	c.subscriptions.put(&s)
	c.emit(event, id, c.subscriptionEvent(&s))
	return &s, nil
}

// AddSubscriptionItem adds a plan to a subscription.
func (in *Instance) AddSubscriptionItem(req Request, p ItemParams) (*SubscriptionItem, error) {
	c := in.begin(req)
	defer c.end()
	plan, status := c.plan(p.Plan), cmp.Or(p.Status, BillingUpcoming)
	switch {
	case c.subscriptions.get(p.SubscriptionID) == nil:
		return nil, NotFound("subscription", p.SubscriptionID)
	case plan == nil:
		return nil, NotFound("plan", p.Plan)
	case itemEventName(status) == "":
		return nil, InvalidValue("status", status)
	}
	i := c.newItem(p.SubscriptionID, plan, p.Annual, p.Seats, status)
	c.addItem(i)
	c.emit("subscriptionItem.created", i.ID, c.itemEvent(i, true))
	c.touchSubscription(p.SubscriptionID)
	return i, nil
}

// touchSubscription emits a subscription one of whose items changed.
func (c *change) touchSubscription(id string) {
	s := *c.subscriptions.get(id)
	s.UpdatedAt = c.advance(s.UpdatedAt)
	c.subscriptions.put(&s)
	c.emit("subscription.updated", id, c.subscriptionEvent(&s))
}

// itemEventName is the event of an item's status, "" for an unknown one.
func itemEventName(status string) string {
	switch status {
	case BillingPastDue:
		return "subscriptionItem.pastDue"
	case BillingActive, BillingCanceled, BillingEnded, BillingAbandoned, BillingIncomplete, BillingUpcoming, BillingExpired:
		return "subscriptionItem." + status
	}
	return ""
}

// changeItem stores a changed copy of an item and emits it and its subscription.
func (in *Instance) changeItem(req Request, id, event string, edit func(i *SubscriptionItem, at OptInt)) (*SubscriptionItem, error) {
	c := in.begin(req)
	defer c.end()
	old := c.items.get(id)
	switch {
	case old == nil:
		return nil, NotFound("subscription item", id)
	case old.Over():
		return nil, refused(http.StatusUnprocessableEntity, "subscription_item_not_active", "The subscription item is "+old.Status+".")
	}
	i := *old
	i.UpdatedAt = c.advance(i.UpdatedAt)
	edit(&i, OptInt(c.lastTick))
	c.items.put(&i)
	c.emit(event, id, c.itemEvent(&i, true))
	c.touchSubscription(i.SubscriptionID)
	return &i, nil
}

// UpdateSubscriptionItemStatus moves an item of a subscription.
func (in *Instance) UpdateSubscriptionItemStatus(req Request, id, status string) (*SubscriptionItem, error) {
	event := itemEventName(status)
	if event == "" {
		return nil, InvalidValue("status", status)
	}
	return in.changeItem(req, id, event, func(i *SubscriptionItem, at OptInt) {
		i.Status = status
		switch status {
		case BillingActive:
			i.PastDueAt, i.CanceledAt = 0, 0
		case BillingPastDue:
			i.PastDueAt = at
		case BillingCanceled:
			i.CanceledAt = at
		case BillingEnded, BillingExpired:
			i.EndedAt = at
		}
	})
}

// UpdateSubscriptionItemSeats changes how many seats are paid.
func (in *Instance) UpdateSubscriptionItemSeats(req Request, id string, seats int64) (*SubscriptionItem, error) {
	if seats < 0 {
		return nil, Invalid("seats", "0 or more")
	}
	return in.changeItem(req, id, "subscriptionItem.updated", func(i *SubscriptionItem, _ OptInt) { i.Seats = OptInt(seats) })
}

// AnnounceFreeTrialEnding announces that an item's free trial ends soon; it
// changes nothing but its updated_at.
func (in *Instance) AnnounceFreeTrialEnding(req Request, id string) (*SubscriptionItem, error) {
	return in.changeItem(req, id, "subscriptionItem.freeTrialEnding", func(*SubscriptionItem, OptInt) {})
}

// CreatePaymentAttempt starts to collect for a subscription.
func (in *Instance) CreatePaymentAttempt(req Request, p PaymentParams) (*PaymentAttempt, error) {
	c := in.begin(req)
	defer c.end()
	charge := cmp.Or(p.ChargeType, "checkout")
	switch {
	case c.subscriptions.get(p.SubscriptionID) == nil:
		return nil, NotFound("subscription", p.SubscriptionID)
	case charge != "checkout" && charge != "recurring":
		return nil, InvalidValue("charge_type", charge)
	}
	a := &PaymentAttempt{
		ID: c.newID("pa_"), SubscriptionID: p.SubscriptionID, PaymentID: c.newID("cpa_"), InvoiceID: c.newID("cinv_"),
		StatementID: c.newID("stmt_"), GatewayExternalID: c.newID("pi_"), Status: PaymentPending, ChargeType: charge, UpdatedAt: c.tick(),
	}
	a.CreatedAt, a.BillingDate = a.UpdatedAt, a.UpdatedAt
	for _, i := range c.items.in(c.subscriptionItems[p.SubscriptionID]) {
		if plan := c.plan(i.PlanID); plan != nil && i.Status == BillingActive {
			a.Subtotal += plan.price(i.PlanPeriod)
		}
	}
	a.Tax = a.Subtotal / 10
	c.payments.put(a)
	c.emit("paymentAttempt.created", a.ID, c.paymentView(a))
	return a, nil
}

// SettlePaymentAttempt ends an attempt: paid if the failure code is empty, else
// failed with the gateway's code (card_declined). What is paid becomes its
// subscription's latest payment.
func (in *Instance) SettlePaymentAttempt(req Request, id, failureCode string) (*PaymentAttempt, error) {
	c := in.begin(req)
	defer c.end()
	old := c.payments.get(id)
	if old == nil {
		return nil, NotFound("payment attempt", id)
	}
	if old.Status != PaymentPending {
		return nil, refused(http.StatusBadRequest, "payment_attempt_not_pending", "The payment attempt is not pending but "+old.Status+".")
	}
	a := *old
	a.UpdatedAt = c.advance(a.UpdatedAt)
	at := OptInt(c.lastTick)
	if failureCode == "" {
		a.Status, a.PaidAt = PaymentPaid, at
	} else {
		a.Status, a.FailedAt, a.FailureCode = PaymentFailed, at, strings.ToLower(failureCode)
	}
	c.payments.put(&a)
	c.emit("paymentAttempt.updated", id, c.paymentView(&a))
	if s := c.subscriptions.get(a.SubscriptionID); s != nil && a.Status == PaymentPaid {
		paid := *s
		paid.LatestPaymentID = OptString(a.PaymentID)
		c.subscriptions.put(&paid)
		c.touchSubscription(s.ID)
	}
	return &a, nil
}
