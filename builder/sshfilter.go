package builder

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// The messages of the agent protocol (draft-ietf-sshm-ssh-agent, "Protocol Message Numbers") that a step may send, and the one that it
// gets for any other. A step may use the user's keys; it may not take them away, lock them up, add its own, or have the agent load
// what is called a smart card, which is a library.
const (
	agentFailure    = 5
	agentIdentities = 11
	agentSign       = 13
)

const (
	// maxAgentMessage is OpenSSH's own bound of a message (AGENT_MAX_LEN).
	maxAgentMessage = 256 << 10
	// maxAgentConns bounds the connections of one step to an agent: each takes two of gobuild's descriptors, and one of the agent's.
	maxAgentConns = 16
)

// relayRequests passes requests of a step on to an agent and its answers back, one after the other, until either side hangs up or
// sends what is no message.
func relayRequests(step, agent io.ReadWriter) error {
	for {
		request, err := readAgentMessage(step)
		if err != nil {
			return err
		}
		answer := []byte{0, 0, 0, 1, agentFailure}
		if slices.Contains([]byte{agentIdentities, agentSign}, request[4]) {
			if _, err := agent.Write(request); err != nil {
				return err
			}
			if answer, err = readAgentMessage(agent); err != nil {
				return err
			}
		}
		if _, err := step.Write(answer); err != nil {
			return err
		}
	}
}

// readAgentMessage reads a length, a type and what belongs to that.
func readAgentMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > maxAgentMessage {
		return nil, fmt.Errorf("a message of an ssh agent has %d bytes, at most %d", n, maxAgentMessage)
	}
	message := append(length[:], make([]byte, n)...)
	_, err := io.ReadFull(r, message[4:])
	return message, err
}
