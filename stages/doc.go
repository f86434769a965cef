// Package stages turns the text of a Dockerfile into a plan: the stages that a
// target needs, their steps with every variable expanded, and the configuration
// that the image will have.
package stages
