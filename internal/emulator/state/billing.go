package state

// Payer is who a subscription bills: a user or an organization.
type Payer struct {
	ID             string
	UserID         string
	OrganizationID string
	CreatedAt      int64
	UpdatedAt      int64
}

// Plan is what a subscription item subscribes to. Plans are the same in every
// instance but for their ids, and never change.
type Plan struct {
	ID           string
	ProductID    string
	Slug         string
	Name         string
	Description  string
	Amount       int64 // cents a month
	AnnualAmount int64 // cents a month when paid by the year
	Seats        int64 // 0: not by the seat
	IsDefault    bool
	ForOrgs      bool
}

// Subscription is what a payer pays for. View renders it with its items.
type Subscription struct {
	ID              string
	Status          string // active, past_due, canceled, ended, abandoned, incomplete
	Payer           Payer
	PaymentSourceID OptString
	LatestPaymentID OptString
	ActiveAt        OptInt
	PastDueAt       OptInt
	CanceledAt      OptInt
	EndedAt         OptInt
	CreatedAt       int64
	UpdatedAt       int64
}

// SubscriptionItem is one plan of a subscription. View renders it with its plan
// and payer.
type SubscriptionItem struct {
	ID             string
	SubscriptionID string
	PlanID         string
	PlanPeriod     string // month, annual
	Status         string // active, canceled, expired, ended, past_due, upcoming, incomplete, abandoned
	IsFreeTrial    bool
	Seats          OptInt
	PeriodStart    int64
	PeriodEnd      OptInt
	CanceledAt     OptInt
	PastDueAt      OptInt
	EndedAt        OptInt
	CreatedAt      int64
	UpdatedAt      int64
}

// Over reports whether the item has come to its end: another takes its place,
// but its status is never another again.
func (i *SubscriptionItem) Over() bool {
	return i.Status == BillingEnded || i.Status == BillingAbandoned || i.Status == BillingExpired
}

// PaymentAttempt is a try to collect for a subscription.
type PaymentAttempt struct {
	ID                string
	SubscriptionID    string
	PaymentID         string
	InvoiceID         string
	StatementID       string
	GatewayExternalID string
	Status            string // pending, paid, failed
	ChargeType        string // checkout, recurring
	FailureCode       string
	Subtotal          int64 // cents
	Tax               int64 // cents
	PaidAt            OptInt
	FailedAt          OptInt
	BillingDate       int64
	CreatedAt         int64
	UpdatedAt         int64
}

// States of subscriptions, their items and payment attempts.
const (
	BillingActive     = "active"
	BillingPastDue    = "past_due"
	BillingCanceled   = "canceled"
	BillingEnded      = "ended"
	BillingAbandoned  = "abandoned"
	BillingIncomplete = "incomplete"
	BillingUpcoming   = "upcoming"
	BillingExpired    = "expired"
	PaymentPending    = "pending"
	PaymentPaid       = "paid"
	PaymentFailed     = "failed"
)
