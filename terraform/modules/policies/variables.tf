# Why `any`: a typed object silently drops the keys that it does not know, so that a misspelled `delete_after` would plan,
# apply and delete nothing, or something else; and it turns "5" and 5 into one another.  With `any` the document arrives
# as it was written.
variable "policies" {
  description = "The document of the function's POLICIES, decoded."
  type        = any
  nullable    = false
}
