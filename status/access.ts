/**
 * Reading with a token. Programs send `Authorization: Bearer TOKEN`; a browser opens any page once
 * with `?token=TOKEN`, gets a cookie and is sent on to the address without it, so that the token does
 * not stay in the history. `/healthz` needs none.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { HTTPException } from "hono/http-exception";

const COOKIE = "oreo_status";

export function requireToken(token: string): MiddlewareHandler {
  const wanted = digest(token);
  const fits = (given: string | undefined) =>
    given !== undefined && timingSafeEqual(digest(given), wanted);
  return async (c, next) => {
    if (c.req.path === "/healthz") return await next();
    const url = new URL(c.req.url);
    const inQuery = url.searchParams.get("token");
    if (inQuery !== null && fits(inQuery) && c.req.method === "GET") {
      setCookie(c, COOKIE, digest(inQuery).toString("base64url"), {
        httpOnly: true,
        sameSite: "Strict",
        path: "/",
        secure: url.protocol === "https:",
      });
      url.searchParams.delete("token");
      return c.redirect(url.pathname + url.search, 303);
    }
    const bearer = /^Bearer (.+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    const cookie = getCookie(c, COOKIE);
    const byCookie = cookie !== undefined &&
      timingSafeEqual(digest(cookie), digest(wanted.toString("base64url")));
    if (fits(bearer) || byCookie) return await next();
    throw new HTTPException(401, {
      message: "reading needs the token: send 'Authorization: Bearer TOKEN', " +
        "or open the page once with ?token=TOKEN",
    });
  };
}

/** Equal lengths for a comparison whose time tells nothing. */
const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
