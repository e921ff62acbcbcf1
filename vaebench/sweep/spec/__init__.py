"""A sweep file: what varies, what is optimised, when it ends."""
