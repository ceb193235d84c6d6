package telemetry

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger logs to stderr from level up (debug, info, warn or error): for
// people if console is set, coloured where stderr is a terminal, else a JSON
// object a line, with times in UTC. The error is an unknown level.
func NewLogger(console bool, level string) (*zap.Logger, error) {
	_, plain := os.LookupEnv("NO_COLOR") // no-color.org
	return newLogger(zapcore.Lock(os.Stderr), console, isTerminal(os.Stderr) && !plain, level)
}

func newLogger(w zapcore.WriteSyncer, console, colour bool, level string) (*zap.Logger, error) {
	levels := map[string]zapcore.Level{
		"debug": zapcore.DebugLevel, "info": zapcore.InfoLevel, "warn": zapcore.WarnLevel, "error": zapcore.ErrorLevel,
	}
	least, ok := levels[level]
	if !ok {
		return nil, fmt.Errorf("log level %q is unknown; use debug, info, warn or error", level)
	}
	// No stack traces and no callers: messages are for who runs it.
	c := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "message",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     utc,
		EncodeDuration: zapcore.StringDurationEncoder,
	}
	encoder := zapcore.NewJSONEncoder(c)
	if console {
		c.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		if colour {
			c.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		c.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(c)
	}
	return zap.New(zapcore.NewCore(encoder, w, least)), nil
}

func utc(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
