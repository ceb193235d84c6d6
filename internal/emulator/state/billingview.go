package state

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// makePlans makes the plans of an instance; their ids are the instance's.
func makePlans(instanceID string) []*Plan {
	suffix := strings.TrimPrefix(instanceID, "ins_")
	plan := func(slug, name string, amount, annual, seats int64, orgs bool) *Plan {
		return &Plan{
			ID: "cplan_" + slug + suffix, ProductID: "cprd_" + slug + suffix, Slug: slug, Name: name,
			Description: name + " plan", Amount: amount, AnnualAmount: annual, Seats: seats,
			IsDefault: strings.HasPrefix(slug, "free"), ForOrgs: orgs,
		}
	}
	return []*Plan{
		plan("free_user", "Free", 0, 0, 0, false),
		plan("pro_user", "Pro", 2000, 1800, 0, false),
		plan("free_org", "Free", 0, 0, 0, true),
		plan("team_org", "Team", 5000, 4500, 5, true),
		plan("enterprise_org", "Enterprise", 50000, 45000, 50, true),
	}
}

// plan finds a plan by its id or slug.
func (in *Instance) plan(name string) *Plan {
	for _, p := range in.plans {
		if p.ID == name || p.Slug == name {
			return p
		}
	}
	return nil
}

type money struct {
	Amount          int64  `json:"amount"` // cents
	AmountFormatted string `json:"amount_formatted"`
	Currency        string `json:"currency"`
	CurrencySymbol  string `json:"currency_symbol"`
}

func dollars(cents int64) money {
	return money{cents, fmt.Sprintf("$%d.%02d", cents/100, cents%100), "USD", "$"}
}

type planView struct {
	Object           string `json:"object"`
	ID               string `json:"id"`
	Name             string `json:"name"`
	Fee              money  `json:"fee"`
	AnnualMonthlyFee money  `json:"annual_monthly_fee"`
	AnnualFee        money  `json:"annual_fee"`
	Description      string `json:"description"`
	ProductID        string `json:"product_id"`
	IsDefault        bool   `json:"is_default"`
	IsRecurring      bool   `json:"is_recurring"`
	PubliclyVisible  bool   `json:"publicly_visible"`
	HasBaseFee       bool   `json:"has_base_fee"`
	ForPayerType     string `json:"for_payer_type"`
	Slug             string `json:"slug"`
	AvatarURL        any    `json:"avatar_url"`
	FreeTrialEnabled bool   `json:"free_trial_enabled"`
	FreeTrialDays    any    `json:"free_trial_days"`
}

// MarshalJSON renders the plan as the Backend API does.
func (p *Plan) MarshalJSON() ([]byte, error) {
	payer := "user"
	if p.ForOrgs {
		payer = "org"
	}
	return marshal(planView{
		Object: "commerce_plan", ID: p.ID, Name: p.Name, Fee: dollars(p.Amount), AnnualMonthlyFee: dollars(p.AnnualAmount),
		AnnualFee: dollars(12 * p.AnnualAmount), Description: p.Description, ProductID: p.ProductID, IsDefault: p.IsDefault,
		IsRecurring: p.Amount > 0, PubliclyVisible: true, HasBaseFee: p.Amount > 0, ForPayerType: payer, Slug: p.Slug,
	})
}

// payerView is a payer in the Backend API, and in a payment's event where
// object and instance are absent.
type payerView struct {
	Object           string    `json:"object,omitempty"`
	ID               string    `json:"id"`
	InstanceID       string    `json:"instance_id"`
	UserID           OptString `json:"user_id"`
	FirstName        OptString `json:"first_name"`
	LastName         OptString `json:"last_name"`
	Email            OptString `json:"email"`
	OrganizationID   OptString `json:"organization_id"`
	OrganizationName OptString `json:"organization_name"`
	ImageURL         string    `json:"image_url"`
	CreatedAt        int64     `json:"created_at"`
	UpdatedAt        int64     `json:"updated_at"`
}

// payerEvent is a payer in an event: the same without the instance, and with
// empty strings in place of null.
type payerEvent struct {
	Object           string `json:"object"`
	ID               string `json:"id"`
	UserID           string `json:"user_id"`
	FirstName        string `json:"first_name"`
	LastName         string `json:"last_name"`
	Email            string `json:"email"`
	OrganizationID   string `json:"organization_id"`
	OrganizationName string `json:"organization_name"`
	ImageURL         string `json:"image_url"`
	CreatedAt        int64  `json:"created_at"`
	UpdatedAt        int64  `json:"updated_at"`
}

func (in *Instance) payerEvent(p Payer) payerEvent {
	v := payerEvent{
		Object: "commerce_payer", ID: p.ID, UserID: p.UserID, OrganizationID: p.OrganizationID,
		ImageURL: imageBase + p.UserID + p.OrganizationID, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	if u := in.users.get(p.UserID); u != nil {
		v.FirstName, v.LastName = string(u.FirstName), string(u.LastName)
		if e := u.Email(); e != nil {
			v.Email = e.EmailAddress
		}
	}
	if o := in.organizations.get(p.OrganizationID); o != nil {
		v.OrganizationName = o.Name
	}
	return v
}

func (in *Instance) payerView(p Payer) payerView {
	e := in.payerEvent(p)
	return payerView{
		e.Object, e.ID, in.ID, OptString(e.UserID), OptString(e.FirstName), OptString(e.LastName), OptString(e.Email),
		OptString(e.OrganizationID), OptString(e.OrganizationName), e.ImageURL, e.CreatedAt, e.UpdatedAt,
	}
}

type subscriptionView struct {
	Object                string      `json:"object"`
	ID                    string      `json:"id"`
	InstanceID            string      `json:"instance_id"`
	Status                string      `json:"status"`
	PayerID               string      `json:"payer_id"`
	CreatedAt             int64       `json:"created_at"`
	UpdatedAt             int64       `json:"updated_at"`
	ActiveAt              OptInt      `json:"active_at"`
	PastDueAt             OptInt      `json:"past_due_at"`
	Items                 []*itemView `json:"subscription_items"`
	EligibleForFreeTrials bool        `json:"eligible_for_free_trial"`
}

func (in *Instance) subscriptionView(s *Subscription) *subscriptionView {
	v := &subscriptionView{
		Object: "commerce_subscription", ID: s.ID, InstanceID: in.ID, Status: s.Status, PayerID: s.Payer.ID,
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, ActiveAt: s.ActiveAt, PastDueAt: s.PastDueAt, Items: []*itemView{},
	}
	for _, i := range in.items.in(in.subscriptionItems[s.ID]) {
		v.Items = append(v.Items, in.itemView(i))
	}
	return v
}

type seats struct {
	Quantity OptInt `json:"quantity"`
}

type itemView struct {
	Object      string     `json:"object"`
	ID          string     `json:"id"`
	InstanceID  string     `json:"instance_id"`
	Status      string     `json:"status"`
	PlanID      string     `json:"plan_id"`
	Plan        *Plan      `json:"plan"`
	PlanPeriod  string     `json:"plan_period"`
	PayerID     string     `json:"payer_id"`
	Payer       *payerView `json:"payer,omitempty"`
	IsFreeTrial bool       `json:"is_free_trial"`
	PeriodStart int64      `json:"period_start"`
	PeriodEnd   OptInt     `json:"period_end"`
	CanceledAt  OptInt     `json:"canceled_at"`
	PastDueAt   OptInt     `json:"past_due_at"`
	EndedAt     OptInt     `json:"ended_at"`
	CreatedAt   int64      `json:"created_at"`
	UpdatedAt   int64      `json:"updated_at"`
	Seats       *seats     `json:"seats,omitempty"`
}

func (in *Instance) itemView(i *SubscriptionItem) *itemView {
	v := &itemView{
		Object: "commerce_subscription_item", ID: i.ID, InstanceID: in.ID, Status: i.Status, PlanID: i.PlanID,
		Plan: in.plan(i.PlanID), PlanPeriod: i.PlanPeriod, IsFreeTrial: i.IsFreeTrial, PeriodStart: i.PeriodStart,
		PeriodEnd: i.PeriodEnd, CanceledAt: i.CanceledAt, PastDueAt: i.PastDueAt, EndedAt: i.EndedAt,
		CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt, Seats: seatsOf(i),
	}
	if s := in.subscriptions.get(i.SubscriptionID); s != nil {
		payer := in.payerView(s.Payer)
		v.PayerID, v.Payer = payer.ID, &payer
	}
	return v
}

func seatsOf(i *SubscriptionItem) *seats {
	if i.Seats == 0 {
		return nil
	}
	return &seats{i.Seats}
}

// planEvent is a plan as the events of subscriptions have it.
type planEvent struct {
	ID          string      `json:"id"`
	Slug        string      `json:"slug"`
	Name        string      `json:"name"`
	IsRecurring bool        `json:"is_recurring"`
	Amount      int64       `json:"amount"`
	Currency    string      `json:"currency"`
	UnitPrices  []unitPrice `json:"unit_prices,omitempty"`
}

type unitPrice struct {
	Name      string     `json:"name"`
	BlockSize int        `json:"block_size"`
	Tiers     []unitTier `json:"tiers"`
}

type unitTier struct {
	StartsAtBlock   int64  `json:"starts_at_block"`
	EndsAfterBlock  OptInt `json:"ends_after_block"`
	AmountPerBlock  int64  `json:"amount_per_block"`
	CurrencyOfPrice string `json:"currency"`
}

func planEventOf(p *Plan) *planEvent {
	if p == nil {
		return nil
	}
	v := &planEvent{ID: p.ID, Slug: p.Slug, Name: p.Name, IsRecurring: p.Amount > 0, Amount: p.Amount, Currency: "USD"}
	if p.Seats > 0 {
		v.UnitPrices = []unitPrice{{"seats", 1, []unitTier{{1, OptInt(p.Seats), 0, "USD"}}}}
	}
	return v
}

// itemEvent is an item in its own event (subscription_item, with its payer) and
// inside its subscription's (commerce_subscription_item, without, and with no
// subscription_id), as the official examples have them.
type itemEvent struct {
	Object         string      `json:"object"`
	ID             string      `json:"id"`
	Status         string      `json:"status"`
	IsFreeTrial    bool        `json:"is_free_trial"`
	CreatedAt      int64       `json:"created_at"`
	UpdatedAt      int64       `json:"updated_at"`
	PeriodStart    int64       `json:"period_start"`
	PeriodEnd      OptInt      `json:"period_end"`
	Interval       string      `json:"interval"`
	PlanID         string      `json:"plan_id"`
	Plan           *planEvent  `json:"plan"`
	Seats          *seats      `json:"seats,omitempty"`
	Payer          *payerEvent `json:"payer,omitempty"`
	SubscriptionID OptString   `json:"subscription_id"`
}

func (in *Instance) itemEvent(i *SubscriptionItem, own bool) itemEvent {
	v := itemEvent{
		Object: "commerce_subscription_item", ID: i.ID, Status: i.Status, IsFreeTrial: i.IsFreeTrial,
		CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt, PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd,
		Interval: i.PlanPeriod, PlanID: i.PlanID, Plan: planEventOf(in.plan(i.PlanID)), Seats: seatsOf(i),
	}
	if own {
		payer := in.payerEvent(in.subscriptions.get(i.SubscriptionID).Payer)
		v.Object, v.Payer, v.SubscriptionID = "subscription_item", &payer, OptString(i.SubscriptionID)
	}
	return v
}

type subscriptionEvent struct {
	Object          string      `json:"object"`
	ID              string      `json:"id"`
	Status          string      `json:"status"`
	ActiveAt        OptInt      `json:"active_at"`
	CanceledAt      OptInt      `json:"canceled_at"`
	CreatedAt       int64       `json:"created_at"`
	EndedAt         OptInt      `json:"ended_at"`
	PastDueAt       OptInt      `json:"past_due_at"`
	UpdatedAt       int64       `json:"updated_at"`
	LatestPaymentID OptString   `json:"latest_payment_id"`
	PayerID         string      `json:"payer_id"`
	Payer           payerEvent  `json:"payer"`
	PaymentSourceID OptString   `json:"payment_source_id"`
	Items           []itemEvent `json:"items"`
}

func (in *Instance) subscriptionEvent(s *Subscription) subscriptionEvent {
	v := subscriptionEvent{
		Object: "commerce_subscription", ID: s.ID, Status: s.Status, ActiveAt: s.ActiveAt, CanceledAt: s.CanceledAt,
		CreatedAt: s.CreatedAt, EndedAt: s.EndedAt, PastDueAt: s.PastDueAt, UpdatedAt: s.UpdatedAt,
		LatestPaymentID: s.LatestPaymentID, PayerID: s.Payer.ID, Payer: in.payerEvent(s.Payer),
		PaymentSourceID: s.PaymentSourceID, Items: []itemEvent{},
	}
	for _, i := range in.items.in(in.subscriptionItems[s.ID]) {
		v.Items = append(v.Items, in.itemEvent(i, false))
	}
	return v
}

// paymentView is a payment attempt as its events have it. The Backend API has
// another form, under a statement; the emulator has no statements.
type paymentView struct {
	ID                string         `json:"id"`
	InstanceID        string         `json:"instance_id"`
	PaymentID         string         `json:"payment_id"`
	InvoiceID         string         `json:"invoice_id"`
	StatementID       string         `json:"statement_id"`
	GatewayExternalID string         `json:"gateway_external_id"`
	Status            string         `json:"status"`
	CreatedAt         int64          `json:"created_at"`
	UpdatedAt         int64          `json:"updated_at"`
	PaidAt            OptInt         `json:"paid_at"`
	FailedAt          OptInt         `json:"failed_at"`
	FailedReason      *failedReason  `json:"failed_reason"`
	BillingDate       int64          `json:"billing_date"`
	ChargeType        string         `json:"charge_type"`
	Payee             payee          `json:"payee"`
	Payer             payerEvent     `json:"payer"`
	Totals            totals         `json:"totals"`
	PaymentSource     paymentSource  `json:"payment_source"`
	Items             []paidItemView `json:"subscription_items"`
}

type failedReason struct {
	Code        string `json:"code"`
	DeclineCode string `json:"decline_code"`
}

type payee struct {
	ID                string `json:"id"`
	GatewayType       string `json:"gateway_type"`
	GatewayExternalID string `json:"gateway_external_id"`
	GatewayStatus     string `json:"gateway_status"`
}

type totals struct {
	Subtotal   money `json:"subtotal"`
	TaxTotal   money `json:"tax_total"`
	GrandTotal money `json:"grand_total"`
}

type paymentSource struct {
	ID                       string `json:"id"`
	Gateway                  string `json:"gateway"`
	GatewayExternalID        string `json:"gateway_external_id"`
	GatewayExternalAccountID string `json:"gateway_external_account_id"`
	PaymentMethod            string `json:"payment_method"`
	Status                   string `json:"status"`
	CardType                 string `json:"card_type"`
	Last4                    string `json:"last4"`
}

func (in *Instance) paymentView(p *PaymentAttempt) *paymentView {
	account := "acct_" + strings.TrimPrefix(in.ID, "ins_")
	v := &paymentView{
		ID: p.ID, InstanceID: in.ID, PaymentID: p.PaymentID, InvoiceID: p.InvoiceID, StatementID: p.StatementID,
		GatewayExternalID: p.GatewayExternalID, Status: p.Status, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
		PaidAt: p.PaidAt, FailedAt: p.FailedAt, BillingDate: p.BillingDate, ChargeType: p.ChargeType,
		Payee:  payee{"cpayee_" + strings.TrimPrefix(in.ID, "ins_"), "stripe", account, "active"},
		Totals: totals{dollars(p.Subtotal), dollars(p.Tax), dollars(p.Subtotal + p.Tax)}, Items: []paidItemView{},
	}
	if p.FailureCode != "" {
		v.FailedReason = &failedReason{p.FailureCode, "generic_decline"}
	}
	if s := in.subscriptions.get(p.SubscriptionID); s != nil {
		v.Payer = in.payerEvent(s.Payer)
		v.PaymentSource = paymentSource{
			string(s.PaymentSourceID), "stripe", strings.Replace(string(s.PaymentSourceID), "cps_", "pm_", 1), account,
			"card", "active", "visa", "4242",
		}
	}
	for _, i := range in.items.in(in.subscriptionItems[p.SubscriptionID]) {
		v.Items = append(v.Items, in.paidItem(i))
	}
	return v
}

// paidItemView is an item inside a payment attempt.
type paidItemView struct {
	Object            string    `json:"object"`
	ID                string    `json:"id"`
	Status            string    `json:"status"`
	Credit            *credit   `json:"credit"`
	Credits           *credits  `json:"credits"`
	ProrationDate     string    `json:"proration_date"`
	PlanPeriod        string    `json:"plan_period"`
	Interval          string    `json:"interval"`
	PeriodStart       int64     `json:"period_start"`
	PeriodEnd         OptInt    `json:"period_end"`
	CanceledAt        OptInt    `json:"canceled_at"`
	PastDueAt         OptInt    `json:"past_due_at"`
	LifetimePaid      int64     `json:"lifetime_paid"`
	NextPaymentAmount int64     `json:"next_payment_amount"`
	NextPaymentDate   OptInt    `json:"next_payment_date"`
	Amount            money     `json:"amount"`
	Plan              *paidPlan `json:"plan"`
	PlanID            string    `json:"plan_id"`
	CreatedAt         int64     `json:"created_at"`
	UpdatedAt         int64     `json:"updated_at"`
}

type credit struct {
	Amount                money   `json:"amount"`
	CycleDaysRemaining    int     `json:"cycle_days_remaining"`
	CycleDaysTotal        int     `json:"cycle_days_total"`
	CycleRemainingPercent float64 `json:"cycle_remaining_percent"`
}

type credits struct {
	Proration *credit      `json:"proration"`
	Payer     *payerCredit `json:"payer"`
	Total     money        `json:"total"`
}

type payerCredit struct {
	AppliedAmount    money `json:"applied_amount"`
	RemainingBalance money `json:"remaining_balance"`
}

type paidPlan struct {
	ID                  string `json:"id"`
	InstanceID          string `json:"instance_id"`
	ProductID           string `json:"product_id"`
	Name                string `json:"name"`
	Slug                string `json:"slug"`
	Description         string `json:"description"`
	IsDefault           bool   `json:"is_default"`
	IsRecurring         bool   `json:"is_recurring"`
	IsProrated          bool   `json:"is_prorated"`
	Amount              int64  `json:"amount"`
	Period              string `json:"period"`
	Interval            int    `json:"interval"`
	HasBaseFee          bool   `json:"has_base_fee"`
	Currency            string `json:"currency"`
	AnnualMonthlyAmount int64  `json:"annual_monthly_amount"`
	PubliclyVisible     bool   `json:"publicly_visible"`
}

// paidItem shows a half month's credit of nothing: the emulator prorates nothing.
func (in *Instance) paidItem(i *SubscriptionItem) paidItemView {
	half := credit{dollars(0), 15, 30, 0.5}
	v := paidItemView{
		Object: "commerce_subscription_item", ID: i.ID, Status: i.Status, Credit: &half,
		Credits:    &credits{&half, &payerCredit{dollars(0), dollars(0)}, dollars(0)},
		PlanPeriod: i.PlanPeriod, Interval: i.PlanPeriod, PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd,
		ProrationDate: day(i.PeriodStart), CanceledAt: i.CanceledAt, PastDueAt: i.PastDueAt, NextPaymentDate: i.PeriodEnd,
		PlanID: i.PlanID, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
	if p := in.plan(i.PlanID); p != nil {
		amount := p.price(i.PlanPeriod)
		v.LifetimePaid, v.NextPaymentAmount, v.Amount = amount, amount, dollars(amount)
		v.Plan = &paidPlan{
			p.ID, in.ID, p.ProductID, p.Name, p.Slug, p.Description, p.IsDefault, p.Amount > 0, true, p.Amount,
			"month", 1, p.Amount > 0, "USD", p.AnnualAmount, true,
		}
	}
	return v
}

// price is what a period costs, in cents.
func (p *Plan) price(period string) int64 {
	if period == "annual" {
		return 12 * cmp.Or(p.AnnualAmount, p.Amount)
	}
	return p.Amount
}

func day(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.DateOnly) }
