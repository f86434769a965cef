// Package cosign makes and checks signatures of images as the tool of that name does with keys that are files: "simple signing".
//
//	key, err := cosign.ReadPrivate(text, askPassword)
//	s, err := cosign.Sign(key, "example.com/app", manifest)  // s.Payload is a blob, s.Value goes beside it
//	public, err := cosign.ReadPublic(text)
//	claim, err := cosign.Verify(public, s, manifest)
//
// Promises: keys are ECDSA on P-256, signatures are over SHA-256. The same key signs the same with the same bytes (RFC 6979), so signing
// again changes nothing. Verify believes nothing of a payload before its signature is right. No error has a part of a key or a password.
//
// It does not read or write registries (package builder stores a signature under Tag), makes no keys, and knows neither certificates nor
// transparency logs nor keys in other machines: the tool itself is for these.
package cosign
