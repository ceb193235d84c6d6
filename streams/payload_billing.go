package streams

import "encoding/json"

// Subscription is the data of subscription.created, .active, .updated and
// .pastDue: what a payer has subscribed to.
//
// Source: SubscriptionEventPayload of Clerk's webhook specification.
type Subscription struct {
	Object          string             `json:"object"`
	ID              string             `json:"id"`
	Status          string             `json:"status"` // "active", "past_due", "canceled", "ended", "abandoned", "incomplete"
	ActiveAt        Millis             `json:"active_at"`
	CanceledAt      Millis             `json:"canceled_at"`
	EndedAt         Millis             `json:"ended_at"`
	PastDueAt       Millis             `json:"past_due_at"`
	LatestPaymentID string             `json:"latest_payment_id"`
	PayerID         string             `json:"payer_id"`
	Payer           *BillingPayer      `json:"payer"`
	PaymentSourceID string             `json:"payment_source_id"`
	Items           []SubscriptionItem `json:"items"`
	CreatedAt       Millis             `json:"created_at"`
	UpdatedAt       Millis             `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// SubscriptionItem is the data of all subscriptionItem events: one plan within
// a [Subscription]. In a [PaymentAttempt] it comes with credits and without
// seats.
//
// Source: BillingSubscriptionItemEventPayload and BillingSubscriptionItem of
// Clerk's webhook specification.
type SubscriptionItem struct {
	Object         string          `json:"object"`
	ID             string          `json:"id"`
	Status         string          `json:"status"` // "active", "upcoming", "past_due", "canceled", "ended", "abandoned", "incomplete"
	IsFreeTrial    bool            `json:"is_free_trial"`
	PeriodStart    Millis          `json:"period_start"`
	PeriodEnd      Millis          `json:"period_end"` // zero: without end
	Interval       string          `json:"interval"`   // "month" or "annual"
	PlanID         string          `json:"plan_id"`
	Plan           *BillingPlan    `json:"plan"`
	Payer          *BillingPayer   `json:"payer"`
	SubscriptionID string          `json:"subscription_id"`
	Seats          *BillingSeats   `json:"seats"`
	Credit         *BillingCredit  `json:"credit"`
	Credits        *BillingCredits `json:"credits"`
	CreatedAt      Millis          `json:"created_at"`
	UpdatedAt      Millis          `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// PaymentAttempt is the data of paymentAttempt.created and .updated.
//
// Source: PaymentAttemptEventPayload of Clerk's webhook specification.
type PaymentAttempt struct {
	ID                string                `json:"id"`
	InstanceID        string                `json:"instance_id"`
	PaymentID         string                `json:"payment_id"`
	InvoiceID         string                `json:"invoice_id"`
	StatementID       string                `json:"statement_id"`
	GatewayExternalID string                `json:"gateway_external_id"`
	Status            string                `json:"status"` // "pending", "paid", "failed"
	PaidAt            Millis                `json:"paid_at"`
	FailedAt          Millis                `json:"failed_at"`
	FailedReason      *BillingFailedReason  `json:"failed_reason"`
	BillingDate       Millis                `json:"billing_date"`
	ChargeType        string                `json:"charge_type"` // "checkout" or "recurring"
	Payee             *BillingPayee         `json:"payee"`
	Payer             *BillingPayer         `json:"payer"`
	Totals            *BillingTotals        `json:"totals"`
	PaymentSource     *BillingPaymentSource `json:"payment_source"`
	SubscriptionItems []SubscriptionItem    `json:"subscription_items"`
	CreatedAt         Millis                `json:"created_at"`
	UpdatedAt         Millis                `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// BillingPayer is the user or the organization that pays. Ids and names that do not
// apply are empty.
type BillingPayer struct {
	Object           string `json:"object"`
	ID               string `json:"id"`
	UserID           string `json:"user_id"`
	FirstName        string `json:"first_name"`
	LastName         string `json:"last_name"`
	Email            string `json:"email"`
	OrganizationID   string `json:"organization_id"`
	OrganizationName string `json:"organization_name"`
	ImageURL         string `json:"image_url"`
	CreatedAt        Millis `json:"created_at"`
	UpdatedAt        Millis `json:"updated_at"`
}

// BillingPayee is who is paid, at the payment gateway.
type BillingPayee struct {
	ID                string `json:"id"`
	GatewayType       string `json:"gateway_type"`
	GatewayExternalID string `json:"gateway_external_id"`
	GatewayStatus     string `json:"gateway_status"`
}

// BillingPlan is what is subscribed to.
type BillingPlan struct {
	ID          string             `json:"id"`
	Slug        string             `json:"slug"`
	Name        string             `json:"name"`
	IsRecurring bool               `json:"is_recurring"`
	Amount      int64              `json:"amount"`   // in the currency's smallest unit
	Currency    string             `json:"currency"` // ISO 4217
	UnitPrices  []BillingUnitPrice `json:"unit_prices"`
}

// BillingUnitPrice is what a [BillingPlan] charges by quantity.
type BillingUnitPrice struct {
	Name      string                 `json:"name"` // "seats"
	BlockSize int64                  `json:"block_size"`
	Tiers     []BillingUnitPriceTier `json:"tiers"`
}

// BillingUnitPriceTier is the price of the blocks in one range.
type BillingUnitPriceTier struct {
	StartsAtBlock  int64  `json:"starts_at_block"`
	EndsAfterBlock *int64 `json:"ends_after_block"` // nil: without end
	AmountPerBlock int64  `json:"amount_per_block"` // in the currency's smallest unit
	Currency       string `json:"currency"`
}

// BillingSeats is how many members a [SubscriptionItem] pays for.
type BillingSeats struct {
	Quantity *int64 `json:"quantity"` // nil: no limit
}

// BillingAmount is an amount of money.
type BillingAmount struct {
	Amount          int64  `json:"amount"` // in the currency's smallest unit
	AmountFormatted string `json:"amount_formatted"`
	Currency        string `json:"currency"` // ISO 4217
	CurrencySymbol  string `json:"currency_symbol"`
}

// BillingTotals is what a [PaymentAttempt] adds up to.
type BillingTotals struct {
	Subtotal      *BillingAmount     `json:"subtotal"`
	TaxTotal      *BillingAmount     `json:"tax_total"`
	GrandTotal    *BillingAmount     `json:"grand_total"`
	PerUnitTotals []BillingUnitTotal `json:"per_unit_totals"`
}

// BillingUnitTotal is the part of [BillingTotals] that is charged by quantity.
type BillingUnitTotal struct {
	Name     string `json:"name"`
	Amount   int64  `json:"amount"` // of one unit, in the currency's smallest unit
	Quantity *int64 `json:"quantity"`
	Total    int64  `json:"total"` // in the currency's smallest unit
	Currency string `json:"currency"`
}

// BillingPaymentSource is what a [PaymentAttempt] was charged to.
type BillingPaymentSource struct {
	ID                       string `json:"id"`
	Gateway                  string `json:"gateway"`
	GatewayExternalID        string `json:"gateway_external_id"`
	GatewayExternalAccountID string `json:"gateway_external_account_id"`
	PaymentMethod            string `json:"payment_method"`
	Status                   string `json:"status"`
	CardType                 string `json:"card_type"`
	Last4                    string `json:"last4"`
}

// BillingFailedReason is why a [PaymentAttempt] failed.
type BillingFailedReason struct {
	Code        string `json:"code"`
	DeclineCode string `json:"decline_code"`
}

// BillingCredit is what remains of a plan left in the middle of a period.
type BillingCredit struct {
	Amount                *BillingAmount `json:"amount"`
	CycleDaysRemaining    int64          `json:"cycle_days_remaining"`
	CycleDaysTotal        int64          `json:"cycle_days_total"`
	CycleRemainingPercent float64        `json:"cycle_remaining_percent"` // from 0 to 1
}

// BillingCredits are all that lower the price of a [SubscriptionItem].
type BillingCredits struct {
	Proration *BillingCredit      `json:"proration"`
	Payer     *BillingPayerCredit `json:"payer"`
	Total     *BillingAmount      `json:"total"`
}

// BillingPayerCredit is a payer's balance, and what of it was used.
type BillingPayerCredit struct {
	AppliedAmount    *BillingAmount `json:"applied_amount"`
	RemainingBalance *BillingAmount `json:"remaining_balance"`
}
