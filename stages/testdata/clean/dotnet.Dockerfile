FROM mcr.example/dotnet/sdk:9.0 AS build
WORKDIR /src
COPY *.csproj ./
RUN dotnet restore
COPY . .
RUN dotnet publish -c Release -o /app --no-restore

FROM mcr.example/dotnet/aspnet:9.0
WORKDIR /app
COPY --from=build /app ./
USER app
ENTRYPOINT ["dotnet", "App.dll"]
