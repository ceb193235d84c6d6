package state

import (
	"fmt"
	"net/http"
	"time"
)

// emailEvent is a message to an e-mail address, with its one-time code.
type emailEvent struct {
	Object           string      `json:"object"`
	ID               string      `json:"id"`
	Slug             string      `json:"slug"`
	FromEmailName    string      `json:"from_email_name"`
	ReplyToEmailName any         `json:"reply_to_email_name"`
	ToEmailAddress   string      `json:"to_email_address"`
	EmailAddressID   string      `json:"email_address_id"`
	UserID           string      `json:"user_id"`
	Subject          string      `json:"subject"`
	Body             string      `json:"body"`
	BodyPlain        string      `json:"body_plain"`
	Status           string      `json:"status"`
	DeliveredByClerk bool        `json:"delivered_by_clerk"`
	Data             messageData `json:"data"`
}

type messageData struct {
	App struct {
		DomainName   string `json:"domain_name"`
		LogoImageURL string `json:"logo_image_url"`
		LogoURL      any    `json:"logo_url"`
		Name         string `json:"name"`
		URL          string `json:"url"`
	} `json:"app"`
	OTPCode     string `json:"otp_code"`
	RequestedAt string `json:"requested_at"`
	RequestedBy string `json:"requested_by"`
	Theme       struct {
		ButtonTextColor   string `json:"button_text_color"`
		PrimaryColor      string `json:"primary_color"`
		ShowClerkBranding bool   `json:"show_clerk_branding"`
	} `json:"theme"`
	User struct {
		PublicMetadata         Metadata `json:"public_metadata"`
		PublicMetadataFallback string   `json:"public_metadata_fallback"`
	} `json:"user"`
}

// SendEmailCode sends a one-time code to the user's primary e-mail address.
func (in *Instance) SendEmailCode(req Request, userID string) error {
	c := in.begin(req)
	defer c.end()
	u := c.users.get(userID)
	if u == nil {
		return NotFound("user", userID)
	}
	to := u.Email()
	if to == nil {
		return refused(http.StatusBadRequest, "no_email_address", "The user has no email address.")
	}
	at, code := c.tick(), digits(c.rng.Uint64(), 6)
	e := emailEvent{
		Object: "email", ID: c.newID("ema_"), Slug: "verification_code", FromEmailName: "notifications",
		ToEmailAddress: to.EmailAddress, EmailAddressID: to.ID, UserID: u.ID, Status: "queued", DeliveredByClerk: true,
		Subject:   code + " is your verification code",
		Body:      fmt.Sprintf("<!DOCTYPE html>\n<html><body><h1>Verification code</h1><p><b>%s</b></p></body></html>", code),
		BodyPlain: fmt.Sprintf("%s is your OTP code for %s.\n\nDo not share this with anyone.\n", code, c.Name),
		Data: messageData{
			OTPCode: code, RequestedBy: "Chrome, OS X",
			RequestedAt: time.UnixMilli(at).UTC().Format("02 January 2006, 15:04 MST"),
		},
	}
	e.Data.App.Name, e.Data.App.URL, e.Data.App.DomainName = c.Name, c.Issuer, c.Issuer
	e.Data.App.LogoImageURL = imageBase + c.ID
	e.Data.Theme.ButtonTextColor, e.Data.Theme.PrimaryColor, e.Data.Theme.ShowClerkBranding = "#ffffff", "#335bf1", true
	e.Data.User.PublicMetadata = u.PublicMetadata
	c.emit("email.created", e.ID, e)
	return nil
}

// smsEvent has created_at as the official example and created_at_ms as the
// specification.
type smsEvent struct {
	Object           string   `json:"object"`
	ID               string   `json:"id"`
	Slug             string   `json:"slug"`
	FromPhoneNumber  string   `json:"from_phone_number"`
	ToPhoneNumber    string   `json:"to_phone_number"`
	PhoneNumberID    string   `json:"phone_number_id"`
	UserID           string   `json:"user_id"`
	Message          string   `json:"message"`
	Status           string   `json:"status"`
	Data             struct{} `json:"data"`
	DeliveredByClerk bool     `json:"delivered_by_clerk"`
	CreatedAt        int64    `json:"created_at"`
	CreatedAtMS      int64    `json:"created_at_ms"`
}

// SendSMSCode sends a one-time code to the user's primary phone number.
func (in *Instance) SendSMSCode(req Request, userID string) error {
	c := in.begin(req)
	defer c.end()
	u := c.users.get(userID)
	if u == nil {
		return NotFound("user", userID)
	}
	to := u.Phone()
	if to == nil {
		return refused(http.StatusBadRequest, "no_phone_number", "The user has no phone number.")
	}
	at := c.tick()
	s := smsEvent{
		Object: "sms_message", ID: c.newID("sms_"), Slug: "verification_code", FromPhoneNumber: "+15555550100",
		ToPhoneNumber: to.PhoneNumber, PhoneNumberID: to.ID, UserID: u.ID, Status: "queued", DeliveredByClerk: true,
		Message: "Your verification code is " + digits(c.rng.Uint64(), 6), CreatedAt: at, CreatedAtMS: at,
	}
	c.emit("sms.created", s.ID, s)
	return nil
}
